// The page: what serves here and in which state, asked again every few seconds; the rest is in the files beside it.

import { ask, token } from "./page-ask.js";
import { showCertificate } from "./page-certificate.js";
import { byId, listed, sentence, tell } from "./page-dom.js";
import { watch } from "./page-live.js";
import { openPictures } from "./page-picture.js";

const EVERY_MS = 3000;
const KEPT = "Sent with every request of this page, and kept in this tab until it is closed.";
const STATES = { starting: "Starting", ready: "Ready", failed: "Not ready", draining: "Shutting down" };
const server = { model: "", certified: undefined, locked: false }; // locked: nothing is asked until the token changes

async function look() {
  try {
    const about = await ask("./");
    if (server.locked) return; // by another request, meanwhile
    show(about);
    await certify(about);
  } catch (error) {
    if (server.locked) return;
    stateIs("gone", "No answer");
    tell(byId("trouble"), error.message);
  }
}

function show(about) {
  server.model = String(about.model ?? "");
  document.title = `${server.model} – edge server`;
  byId("model").textContent = server.model;
  stateIs(about.state, STATES[about.state] ?? String(about.state));
  tell(byId("trouble"), about.state === "ready" ? "" : sentence(about.reason));
  listed(byId("facts"), [
    ["Release", about.release],
    ["Precision", about.precision],
    ["Engine", about.engine || about.backend],
    ["Classes", about.labels || ""],
    ["Bundle", String(about.bundle ?? "").slice(0, 12)],
  ]);
  byId("shell").textContent = String(about.try ?? "").replace("http://HOST:PORT/", new URL("./", location.href).href);
}

function stateIs(name, words) {
  byId("state").dataset.state = name;
  if (byId("state-words").textContent !== words) byId("state-words").textContent = words;
}

// The whole certificate is asked for once, and again when the summary at `/` tells of another.
async function certify(about) {
  const summary = about.certificate ?? {};
  const now = JSON.stringify([summary.policy, summary.issued_at, about.state === "starting"]);
  if (now === server.certified) return;
  const made = summary.passed === true || summary.passed === false;
  showCertificate(byId("certificate"), made ? await ask("certificate") : null, about);
  server.certified = now;
}

function openAccess() {
  const field = byId("token");
  field.value = token.get();
  byId("token-words").textContent = KEPT;
  field.addEventListener("change", () => changed(field.value.trim()));
  byId("token-forget").addEventListener("click", () => changed((field.value = "")));
  addEventListener("token-wanted", (event) => lock(event.detail));
}

function lock(words) {
  byId("access").open = server.locked = true;
  stateIs("locked", "Token wanted");
  tell(byId("trouble"), words);
}

function changed(text) {
  const sendable = !/[^\x21-\x7e]/.test(text);
  byId("token-words").textContent = sendable
    ? KEPT
    : "Not a token: only letters, digits and signs of ASCII can be sent.";
  if (!sendable) return;
  token.set(text);
  Object.assign(server, { certified: undefined, locked: false });
  look();
}

async function keepLooking() {
  if (!document.hidden && !server.locked) await look();
  setTimeout(keepLooking, EVERY_MS);
}

openAccess();
openPictures(() => server.model);
watch(() => (server.locked ? "" : server.model));
keepLooking();
