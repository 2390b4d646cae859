// A picture goes to the server, five bars come back: from a file, the clipboard, a drop, or the camera.

import { ask } from "./page-ask.js";
import { byId, foreign, make, percent, rounded, tell } from "./page-dom.js";

// the server reads these; the browser turns others into PNG
const SENT_AS_IT_IS = ["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"];
const CAMERA_SIDE = 640; // pixels of the longer side: more would only be thrown away by the model
const BETWEEN_SHOTS_MS = 100; // of continuous pictures: an operator looks, the clients of the server have to wait
const STAGES = { decode: "Decoding", queue: "Queue", infer: "Inference", encode: "Encoding" };
const camera = { stream: null, running: null };
let modelName = () => "";
let latest = 0;
let previewed = "";

export function openPictures(model) {
  modelName = model;
  byId("file").addEventListener("change", () => {
    picked(byId("file").files);
    byId("file").value = ""; // the same file again is a change again
  });
  document.addEventListener("paste", (event) => picked(event.clipboardData?.files));
  openDrop();
  byId("preview").addEventListener("error", () => (byId("preview").hidden = byId("stage").hidden = true));
  byId("camera").addEventListener("click", () => (camera.stream ? closeCamera() : openCamera()));
  byId("shoot").addEventListener("click", shoot);
  byId("continuous").addEventListener("click", () => (camera.running ? pause() : keepShooting()));
}

function openDrop() {
  const over = (event, is) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    byId("drop").classList.toggle("over", is);
  };
  document.addEventListener("dragover", (event) => over(event, true));
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && over(event, false));
  document.addEventListener("drop", (event) => {
    over(event, false);
    picked(event.dataTransfer?.files);
  });
}

function picked(files) {
  if (!files?.length) return;
  closeCamera();
  classify(files[0], true).catch(fail);
}

// Only the latest picture's answer is shown: they may come out of order.
async function classify(file, still) {
  const number = (latest += 1);
  byId("drop").classList.toggle("busy", still);
  try {
    const picture = SENT_AS_IT_IS.includes(file.type) ? file : await converted(file);
    if (still) preview(picture);
    const began = performance.now();
    const answer = await ask(`v2/models/${encodeURIComponent(modelName())}/infer`, {
      method: "POST",
      headers: { "Content-Type": picture.type },
      body: picture,
    });
    if (number === latest) show(answer, performance.now() - began, still);
  } finally {
    if (number === latest) byId("drop").classList.remove("busy");
  }
}

async function converted(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name || "This"} is no picture that this browser can read. Choose a JPEG or PNG.`);
  }
  return drawn(bitmap, bitmap.width, bitmap.height, "image/png");
}

function drawn(source, width, height, type) {
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").drawImage(source, 0, 0, width, height);
  return new Promise((done, broken) =>
    canvas.toBlob(
      (blob) => (blob ? done(blob) : broken(new Error("This browser cannot copy the picture."))),
      type,
      0.95,
    ),
  );
}

function preview(picture) {
  if (previewed) URL.revokeObjectURL(previewed);
  previewed = URL.createObjectURL(picture);
  const image = byId("preview");
  image.src = previewed;
  image.alt = `The picture that was sent${picture.name ? `: ${picture.name}` : ""}`;
  image.hidden = byId("stage").hidden = false;
}

function fail(error) {
  tell(byId("error"), error.message);
  byId("result").hidden = true;
}

function show(answer, tripMs, still) {
  tell(byId("error"), "");
  const best = answer.top_k?.[0] ?? [];
  byId("result").hidden = false;
  byId("top-title").textContent = best.length === 5 ? "Best five" : `Best ${best.length}`;
  byId("top").replaceChildren(...best.map(bar));
  showTimes(answer.times_ms ?? {}, tripMs);
  if (still && best.length) byId("spoken").textContent = `${nameOf(best[0])}, ${percent(best[0].probability)}`;
}

const nameOf = (one) => one.label || `class ${one.index}`;

function bar(one) {
  const fill = make("span", { class: "fill" });
  fill.style.width = `${100 * Math.min(1, Math.max(0, Number(one.probability) || 0))}%`;
  return make(
    "li",
    {},
    make("span", { class: "label" }, foreign(nameOf(one))),
    make("span", { class: "share" }, percent(one.probability)),
    make("span", { class: "track", "aria-hidden": "true" }, fill),
  );
}

// What the server did not count (the network, the browser, parsing) is the rest of the round trip.
function showTimes(stages, tripMs) {
  const counted = Object.values(stages).reduce((sum, ms) => sum + ms, 0);
  const parts = [...Object.entries(stages), ["rest", Math.max(0, tripMs - counted)]];
  const pieces = parts.map(([stage, ms]) => {
    const piece = make("span", { class: classOf(stage) });
    piece.style.flexGrow = String(ms);
    return piece;
  });
  const rows = parts.map(([stage, ms]) =>
    make(
      "li",
      {},
      make("span", { class: `swatch ${classOf(stage)}`, "aria-hidden": "true" }),
      foreign(titleOf(stage)),
      make("span", { class: "share" }, `${rounded(ms)} ms`),
    ),
  );
  byId("times-bar").replaceChildren(...pieces);
  byId("times").replaceChildren(
    ...rows,
    make("li", { class: "sum" }, "Round trip", make("span", { class: "share" }, `${rounded(tripMs)} ms`)),
  );
}

const titleOf = (stage) => (stage === "rest" ? "Network and rest" : (STAGES[stage] ?? stage));

const classOf = (stage) => (Object.hasOwn(STAGES, stage) ? `is-${stage}` : "is-rest");

async function openCamera() {
  let granted = null;
  byId("camera").disabled = byId("shoot").disabled = byId("continuous").disabled = true;
  try {
    if (!navigator.mediaDevices)
      throw new Error("Browsers give a camera only to pages from https:// or localhost; this page is from neither.");
    granted = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    camera.stream = byId("video").srcObject = granted;
    showCamera(true);
    tell(byId("error"), "");
    await byId("video").play(); // before that there is no frame to take
    byId("shoot").disabled = byId("continuous").disabled = false;
  } catch (error) {
    if (granted && !camera.stream) return; // a file was chosen meanwhile
    closeCamera();
    fail(error.name === "Error" ? error : new Error(reasonOf(error)));
  } finally {
    byId("camera").disabled = false;
  }
}

function reasonOf(error) {
  if (error.name === "NotAllowedError")
    return "The camera was not allowed. Allow it in the browser's settings for this page.";
  if (error.name === "NotFoundError") return "No camera was found.";
  return `The camera cannot be used: ${error.message}`;
}

function closeCamera() {
  if (!camera.stream) return;
  pause();
  for (const track of camera.stream.getTracks()) track.stop();
  camera.stream = byId("video").srcObject = null;
  showCamera(false);
}

function showCamera(is) {
  byId("choose").hidden = byId("file").hidden = byId("invitation").hidden = is;
  byId("camera").textContent = is ? "Stop the camera" : "Use the camera";
  for (const name of ["shoot", "continuous", "video"]) byId(name).hidden = !is;
  byId("preview").hidden = is || !previewed;
  byId("stage").hidden = !is && !previewed;
}

function frame() {
  const { videoWidth: width, videoHeight: height } = byId("video");
  const scale = Math.min(1, CAMERA_SIDE / Math.max(width, height));
  return drawn(byId("video"), Math.round(width * scale), Math.round(height * scale), "image/jpeg");
}

async function shoot() {
  pause();
  try {
    const picture = await frame();
    closeCamera();
    await classify(picture, true);
  } catch (error) {
    fail(error);
  }
}

async function keepShooting() {
  const run = (camera.running = {});
  byId("continuous").setAttribute("aria-pressed", "true");
  try {
    while (camera.running === run) {
      const next = performance.now() + BETWEEN_SHOTS_MS;
      if (!document.hidden) await classify(await frame(), false);
      await new Promise((done) => setTimeout(done, Math.max(0, next - performance.now())));
    }
  } catch (error) {
    pause();
    fail(error);
  }
}

function pause() {
  camera.running = null;
  byId("continuous").setAttribute("aria-pressed", "false");
}
