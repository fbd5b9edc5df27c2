// All talk with the server. Errors are sentences that can be shown as they are.

const TOKEN = "sfumato-token";

/** Asks the reader for the token; set by the page. */
let askForToken = async () => null;

export function onTokenNeeded(ask) {
  askForToken = ask;
}

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

let asking = null;

/** Ask once, however many requests were refused at the same time. */
async function renewToken(refused) {
  if (refused !== headers().Authorization) return;
  asking ??= askForToken(refused !== undefined).then((token) => {
    asking = null;
    if (token === null) throw new Error("The server wants a token. Reload the page to enter it.");
    sessionStorage.setItem(TOKEN, token);
  });
  await asking;
}

async function fetched(path, options = {}) {
  const sent = headers();
  let response;
  try {
    response = await fetch(path, { ...options, headers: sent });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  if (response.status === 401) {
    await renewToken(sent.Authorization);
    return fetched(path, options);
  }
  if (!response.ok) throw new Error(sentence(response.status, await response.text()));
  return response;
}

/** What the server says is wrong, as one sentence. */
function sentence(status, text) {
  let detail;
  try {
    detail = JSON.parse(text).detail;
  } catch {
    detail = null;
  }
  if (typeof detail !== "string" || !detail) return `The server answered with error ${status}.`;
  const words = detail[0].toUpperCase() + detail.slice(1);
  return /[.!?]$/.test(words) ? words : `${words}.`;
}

export async function getJson(path) {
  return (await fetched(path)).json();
}

export async function getBuffer(path) {
  return (await fetched(path)).arrayBuffer();
}

/** Fetch a picture, and what the server says of it in headers. */
export async function getPicture(path, signal) {
  const response = await fetched(path, { signal });
  return { blob: await response.blob(), headers: response.headers };
}

export async function post(path) {
  return (await fetched(path, { method: "POST" })).json();
}

export async function remove(path) {
  await fetched(path, { method: "DELETE" });
}

/**
 * Send files as a new job.
 *
 * `fetch` does not tell how much has been sent, so this is an XMLHttpRequest.
 *
 * @param onProgress Called with the share that has been sent.
 * @returns The job as a promise, and a function that stops sending.
 */
export function sendJob(model, files, onProgress) {
  const request = new XMLHttpRequest();
  const job = new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("model", model);
    form.append("options", JSON.stringify({ probabilities: true, uncertainty: true }));
    for (const file of files) form.append("image", file, file.name);
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    };
    request.onload = () => {
      if (request.status === 202) resolve(JSON.parse(request.responseText));
      else
        reject(
          Object.assign(new Error(sentence(request.status, request.responseText)), {
            status: request.status,
          }),
        );
    };
    request.onerror = () => reject(new Error("The connection to the server broke while sending."));
    request.onabort = () => resolve(null);
    request.open("POST", "v1/jobs");
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.send(form);
  });
  return { job, stop: () => request.abort() };
}

/** Call `onJob` with a job each time it changes, until it has ended or `signal` is aborted. */
export async function followJob(id, onJob, signal) {
  const response = await fetched(`v1/jobs/${encodeURIComponent(id)}/events`, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).replaceAll("\r\n", "\n").split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length) onJob(JSON.parse(data.map((line) => line.slice(5)).join("\n")));
    }
  }
}
