// Every request of the page goes through here: the token is put in, and what goes wrong becomes a sentence.

import { sentence } from "./page-dom.js";

const KEY = "edge-token";
const PATIENCE_MS = 20000;

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

// status: of HTTP; 0 when no answer came. The message is for a person.
export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

export async function ask(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  const reply = await sent(path, { ...options, headers });
  const text = await reply.text().catch(() => "");
  if (!reply.ok) throw new Refused(reply.status, wordsFor(reply, text));
  try {
    return JSON.parse(text);
  } catch {
    throw new Refused(reply.status, `The server's answer to ${path} could not be read.`);
  }
}

async function sent(path, options) {
  const plan = { ...options, cache: "no-store", credentials: "same-origin", redirect: "error" };
  try {
    return await fetch(path, { ...plan, signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch (error) {
    if (error.name === "TimeoutError")
      throw new Refused(0, `The server did not answer within ${PATIENCE_MS / 1000} seconds.`);
    throw new Refused(0, "The server cannot be reached.");
  }
}

function wordsFor(reply, text) {
  const said = errorIn(text);
  if (reply.status === 401) {
    const words = token.get() ? "The server does not take this access token." : "The server wants an access token.";
    dispatchEvent(new CustomEvent("token-wanted", { detail: words }));
    return words;
  }
  const later = reply.headers.get("Retry-After");
  return sentence(
    `${said || `the server answered ${reply.status}`}${later ? `; it asks to try again in ${later} s` : ""}`,
  );
}

function errorIn(text) {
  try {
    return String(JSON.parse(text).error ?? "");
  } catch {
    return "";
  }
}
