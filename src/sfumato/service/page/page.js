// The frame of the page: tabs, light and dark, and the token. Each tab has a module of its own.

import { onTokenNeeded } from "./api.js";
import { byId } from "./dom.js";
import { openLabels } from "./labels.js";
import { openSegment, selectJob } from "./segment.js";

const THEME = "sfumato-theme";
const TABS = { segment: openSegment, labels: openLabels };
const isOpen = new Set();

function showTab(name) {
  for (const other of Object.keys(TABS)) {
    const tab = byId(`tab-${other}`);
    tab.setAttribute("aria-selected", String(other === name));
    tab.tabIndex = other === name ? 0 : -1;
    byId(other).hidden = other !== name;
  }
  if (!isOpen.has(name)) {
    isOpen.add(name);
    TABS[name]();
  }
}

/** The address says what is shown, so that going back, reloading and links work. */
function followAddress() {
  const [name, id] = location.hash.slice(1).split("/");
  showTab(name in TABS ? name : "segment");
  if (name === "segment") selectJob(id ? decodeURIComponent(id) : null);
}

function setUpTabs() {
  const names = Object.keys(TABS);
  names.forEach((name, i) => {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => {
      location.hash = name;
    });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const next = names[(i + step + names.length) % names.length];
      location.hash = next;
      byId(`tab-${next}`).focus();
    });
  });
}

function setUpTheme() {
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () =>
    (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const say = () => {
    button.textContent = isDark() ? "☀ Light" : "☾ Dark";
    button.setAttribute("aria-label", `Make the page ${isDark() ? "light" : "dark"}`);
  };
  const kept = localStorage.getItem(THEME);
  if (kept) document.documentElement.dataset.theme = kept;
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    localStorage.setItem(THEME, theme);
    say();
  });
  system.addEventListener("change", say);
  say();
}

onTokenNeeded(
  (wasWrong) =>
    new Promise((resolve) => {
      const dialog = byId("token-dialog");
      byId("token-error").hidden = !wasWrong;
      byId("token").value = "";
      dialog.returnValue = "";
      dialog.addEventListener(
        "close",
        () => resolve(dialog.returnValue === "given" ? byId("token").value : null),
        { once: true },
      );
      dialog.showModal();
    }),
);
setUpTabs();
setUpTheme();
addEventListener("hashchange", followAddress);
followAddress();
