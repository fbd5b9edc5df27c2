// NiiVue is large, so it is loaded when something is to be shown for the first time.

let loading = null;

export function loadNiivue() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "niivue.umd.js";
    script.onload = () => resolve(window.niivue);
    script.onerror = () => {
      loading = null;
      reject(new Error("The viewer could not be loaded. Is the server still running?"));
    };
    document.head.append(script);
  });
  return loading;
}
