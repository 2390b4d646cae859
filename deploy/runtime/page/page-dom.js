// Elements and figures. Whatever comes from the server becomes text nodes here, never markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return node;
}

export const make = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);

export const draw = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, tag), attributes, children);

// Foreign words stand by themselves: their writing direction must not turn what stands beside them.
export const foreign = (text) => make("bdi", {}, text ?? "");

export function sentence(words) {
  const text = String(words ?? "").trim();
  return text && `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

// Show `words`, or hide the place when there are none.
export function tell(place, words) {
  if (place.textContent !== words) place.textContent = words;
  place.hidden = !words;
}

export function listed(place, pairs) {
  const shown = pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined);
  place.replaceChildren(...shown.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export function rounded(value) {
  if (!isNumber(value)) return "–";
  const digits = Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export const whole = (value) => (isNumber(value) ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : "–");

export const percent = (share) => (isNumber(share) ? `${(share * 100).toFixed(1)} %` : "–");

export const gigabytes = (bytes) => (isNumber(bytes) ? `${(bytes / 1e9).toFixed(bytes < 1e10 ? 2 : 0)} GB` : "–");

export function ago(milliseconds) {
  const seconds = Math.max(0, (Date.now() - milliseconds) / 1000);
  const [size, unit] = [
    [86400, "day"],
    [3600, "hour"],
    [60, "minute"],
    [1, "second"],
  ].find(([size]) => seconds >= size) ?? [1, "second"];
  const count = Math.floor(seconds / size);
  return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
}

export function moment(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return String(text);
  return `${time.toISOString().slice(0, 16).replace("T", " ")} UTC (${ago(time.getTime())})`;
}
