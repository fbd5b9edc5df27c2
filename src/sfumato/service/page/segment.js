// The tab that segments: send an image, watch its job, look at the result.

import { followJob, getJson, post, remove, sendJob } from "./api.js";
import { byId, bytesText, counted, listText, numberText, secondsText, showError } from "./dom.js";
import { element } from "./elements.js";
import { closeResult, openResult } from "./result.js";

const OVER = ["done", "failed", "cancelled"];
const POLL_MS = 3000;
const STATES = {
  queued: "waiting",
  running: "running",
  done: "done",
  failed: "failed",
  cancelled: "cancelled",
};
const STAGES = { reading: "Reading the image", segmenting: "Segmenting", writing: "Writing the results" };

const state = { models: [], jobs: [], files: [], selected: null, shown: null, following: null, timer: 0 };

export async function openSegment() {
  setUpForm();
  try {
    state.models = await getJson("v1/models");
    showModels();
  } catch (error) {
    showError(byId("new-error"), error);
  }
  await refreshJobs();
}

/** Show a job's result; null shows what can be done here. */
export function selectJob(id) {
  state.selected = id;
  showSelected();
  // Where the list stands above the result, that is out of sight.
  if (id)
    byId("result").scrollIntoView({ block: matchMedia("(max-width: 60rem)").matches ? "start" : "nearest" });
}

// ---- a new image ----

function setUpForm() {
  const drop = byId("drop"),
    files = byId("files"),
    folder = byId("folder");
  files.addEventListener("change", () => chooseFiles([...files.files]));
  folder.addEventListener("change", () => chooseFiles([...folder.files]));
  byId("choose-folder").addEventListener("click", () => folder.click());
  byId("model").addEventListener("change", showModelWords);
  byId("new-job").addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  // A file that misses the field must not replace the page.
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
  addEventListener("dragover", () => drop.classList.add("over"));
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  addEventListener("drop", async (event) => {
    drop.classList.remove("over");
    if (!byId("segment").hidden) chooseFiles(await droppedFiles(event.dataTransfer));
  });
}

/** All files that were dropped, those within folders too. */
async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  const read = (folder) => new Promise((resolve, reject) => folder.readEntries(resolve, reject));
  const visit = async (entry) => {
    if (entry.isFile) {
      found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
      return;
    }
    const reader = entry.createReader();
    // A reader gives a part of a folder at a time, and nothing at its end.
    for (let part = await read(reader); part.length; part = await read(reader)) {
      for (const one of part) await visit(one);
    }
  };
  for (const entry of entries) await visit(entry);
  return found;
}

function chooseFiles(files) {
  state.files = files.filter((file) => !file.name.startsWith("."));
  showError(byId("new-error"), null);
  const list = byId("chosen");
  const total = state.files.reduce((sum, file) => sum + file.size, 0);
  const [first] = state.files;
  list.hidden = !first;
  list.replaceChildren();
  if (first) {
    const words =
      state.files.length === 1 ? first.name : `${counted(state.files.length, "file")}, first ${first.name}`;
    list.append(
      element(
        "li",
        {},
        element("span", { class: "name" }, words),
        element("span", { class: "small" }, bytesText(total)),
        element(
          "button",
          {
            type: "button",
            class: "quiet",
            "aria-label": "Take the files away",
            click: () => {
              forgetFiles();
              byId("files").focus();
            },
          },
          "✕",
        ),
      ),
    );
  }
  byId("start").disabled = !first || !state.models.length;
  if (first) byId("start").focus();
}

function forgetFiles() {
  byId("files").value = "";
  byId("folder").value = "";
  chooseFiles([]);
}

function showModels() {
  byId("model").replaceChildren(
    ...state.models.map((model) => element("option", { value: model.name }, model.name)),
  );
  showModelWords();
}

function showModelWords() {
  const model = state.models.find((one) => one.name === byId("model").value);
  byId("model-words").textContent = model ? modelWords(model) : "";
  byId("start").disabled = !state.files.length || !model;
}

function modelWords(model) {
  const channels = (model.channels ?? []).filter(Boolean);
  const kind = `${model.dimensions === 2 ? "Pictures" : "Volumes"}${channels.length > 1 ? ` of ${channels.length} channels` : ""}`;
  const spacing = model.spacing?.length
    ? `, seen at ${model.spacing.map((mm) => Number(numberText(mm))).join(" × ")} mm`
    : "";
  const intervals = model.has_intervals ? " Volumes come with intervals." : "";
  return `${kind}${spacing}; finds ${listText(model.classes.map((one) => one.name))}.${intervals}`;
}

async function start() {
  const sending = byId("sending");
  showError(byId("new-error"), null);
  byId("start").disabled = true;
  sending.hidden = false;
  const { job, stop } = sendJob(byId("model").value, state.files, (share) => {
    byId("sent").value = share;
    byId("sent-share").textContent = `${Math.round(100 * share)} %`;
  });
  byId("stop-sending").onclick = stop;
  try {
    const created = await job;
    if (created) {
      forgetFiles();
      state.jobs = [created, ...state.jobs.filter((one) => one.id !== created.id)];
      location.hash = `segment/${encodeURIComponent(created.id)}`;
      showJobs();
      byId("result").focus();
    }
  } catch (error) {
    showError(byId("new-error"), error);
  }
  sending.hidden = true;
  byId("start").disabled = !state.files.length;
}

// ---- the list of jobs ----

async function refreshJobs() {
  try {
    state.jobs = await getJson("v1/jobs");
    showError(byId("jobs-error"), null);
  } catch (error) {
    showError(byId("jobs-error"), error);
  }
  showJobs();
  showSelected();
}

/** Look again in a while as long as a job is under way that is not followed. */
function scheduleRefresh() {
  clearTimeout(state.timer);
  if (state.jobs.some((job) => !OVER.includes(job.state) && job.id !== state.selected)) {
    state.timer = setTimeout(refreshJobs, POLL_MS);
  }
}

function showJobs() {
  byId("no-jobs").hidden = state.jobs.length > 0;
  const list = byId("jobs");
  const focused = list.contains(document.activeElement) ? document.activeElement.id : null;
  list.replaceChildren(...state.jobs.map(jobItem));
  if (focused) byId(focused)?.focus();
  scheduleRefresh();
}

function jobItem(job) {
  const isSelected = job.id === state.selected;
  const when = new Date(job.created).toLocaleString(undefined, { dateStyle: "short", timeStyle: "short" });
  const open = element(
    "a",
    { id: `job-${job.id}`, class: "open", href: `#segment/${encodeURIComponent(job.id)}` },
    element("span", { class: "name" }, job.name),
    element("span", { class: "small" }, `${job.model} · ${when}`),
    element("span", { class: `badge ${job.state}` }, STATES[job.state] ?? job.state),
  );
  if (isSelected) open.setAttribute("aria-current", "true");
  const bin = element(
    "button",
    {
      type: "button",
      id: `delete-${job.id}`,
      class: "quiet",
      "aria-label": `Delete ${job.name}`,
      click: () => askToDelete(job, item),
    },
    "✕",
  );
  const item = element("li", {}, open, bin);
  return item;
}

function askToDelete(job, item) {
  const keep = element(
    "button",
    {
      type: "button",
      click: () => {
        showJobs();
        byId(`delete-${job.id}`)?.focus();
      },
    },
    "Keep",
  );
  const gone = element("button", { type: "button", class: "danger", click: () => deleteJob(job) }, "Delete");
  item.replaceChildren(
    element("span", { class: "question" }, `Delete ${job.name} and its results?`),
    gone,
    keep,
  );
  item.classList.add("asking");
  keep.focus();
}

async function deleteJob(job) {
  try {
    await remove(`v1/jobs/${encodeURIComponent(job.id)}`);
    state.jobs = state.jobs.filter((one) => one.id !== job.id);
    if (state.selected === job.id) location.hash = "segment";
    byId("jobs-heading").scrollIntoView({ block: "nearest" });
  } catch (error) {
    showError(byId("jobs-error"), error);
  }
  showJobs();
}

// ---- the selected job ----

function showSelected() {
  const place = byId("result");
  const job = state.jobs.find((one) => one.id === state.selected);
  for (const link of byId("jobs").querySelectorAll("a.open")) {
    if (job && link.id === `job-${job.id}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  follow(job);
  const shown = job && `${job.id} ${job.state}`;
  if (job && !OVER.includes(job.state)) showProgress(place, job);
  else if (shown !== state.shown) {
    closeResult();
    if (!job) showWelcome(place);
    else if (job.state === "done")
      openResult(
        place,
        job,
        state.models.find((one) => one.name === job.model),
      );
    else showEnd(place, job);
  }
  state.shown = shown;
}

/** Have the server tell what happens to the selected job while it is under way. */
function follow(job) {
  const id = job && !OVER.includes(job.state) ? job.id : null;
  if (state.following?.id === id) return;
  state.following?.stop.abort();
  state.following = null;
  if (!id) return;
  const stop = new AbortController();
  state.following = { id, stop };
  followJob(id, update, stop.signal)
    .catch((error) => {
      if (error.name !== "AbortError") showError(byId("jobs-error"), error);
    })
    .finally(() => {
      if (state.following?.id !== id) return;
      state.following = null;
      // The stream may have broken before the job was over.
      state.timer = setTimeout(refreshJobs, POLL_MS / 3);
    });
}

function update(job) {
  const before = state.jobs.find((one) => one.id === job.id);
  state.jobs = state.jobs.map((one) => (one.id === job.id ? job : one));
  if (before?.state !== job.state) showJobs();
  if (job.id === state.selected) showSelected();
}

function showWelcome(place) {
  const model = state.models[0];
  place.replaceChildren(
    element(
      "div",
      { class: "welcome" },
      element("h2", {}, "See where a structure is, and where it may be"),
      element(
        "p",
        {},
        "Choose an image and a model. The result shows the segmentation in three planes and in 3-D, how probable it is at every place, and how large each structure is.",
      ),
      element(
        "p",
        { class: "small" },
        model ? "Images and results stay on this server, until you delete them or its time limit does." : "",
      ),
    ),
  );
}

/** The progress card is built once and then only changed, so that nothing flickers or loses focus. */
function showProgress(place, job) {
  if (place.dataset.job !== job.id || !place.querySelector(".progress")) {
    closeResult();
    place.dataset.job = job.id;
    place.replaceChildren(
      element(
        "div",
        { class: "progress" },
        element("h2", {}, job.name),
        element("p", { class: "stage-words" }),
        element("progress", { max: 1, "aria-label": "Progress" }),
        element("p", { class: "small left" }),
        element("button", { type: "button", click: () => cancel(job.id) }, "Cancel"),
      ),
    );
  }
  const bar = place.querySelector("progress");
  if (job.state === "queued") bar.removeAttribute("value");
  else bar.value = job.progress;
  place.querySelector(".stage-words").textContent =
    job.state === "queued" ? queueWords(job) : `${STAGES[job.stage] ?? "Working"} …`;
  place.querySelector(".left").textContent =
    job.seconds_left === null || job.state === "queued" ? "" : `About ${secondsText(job.seconds_left)} left`;
}

function queueWords(job) {
  return job.position ? `Waiting; ${counted(job.position, "image")} before this one` : "Waiting to begin";
}

async function cancel(id) {
  try {
    update(await post(`v1/jobs/${encodeURIComponent(id)}/cancel`));
  } catch (error) {
    showError(byId("jobs-error"), error);
  }
}

function showEnd(place, job) {
  const words =
    job.state === "cancelled"
      ? "This job was cancelled."
      : (job.message ?? "This image could not be segmented.");
  place.replaceChildren(
    element(
      "div",
      { class: "welcome" },
      element("h2", {}, job.name),
      element("p", { class: job.state === "failed" ? "error" : "" }, words),
    ),
  );
}
