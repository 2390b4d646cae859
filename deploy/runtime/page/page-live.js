// What all clients get from this server, second by second: differences of what /stats has counted since it began.
//
// Means of a second, not percentiles: counts and sums cannot tell those. Requests that wait and run are a mean too, by
// Little's law: the time that requests spent there, over the time that passed.

import { ask } from "./page-ask.js";
import { ago, byId, draw, listed, make, rounded, tell, whole } from "./page-dom.js";

const EVERY_MS = 1000;
const KEPT = 120; // seconds in a plot
const WIDTH = 480,
  HEIGHT = 92;
const STAGES = [
  ["compute_input", "Decoding", "is-decode"],
  ["queue", "Queue", "is-queue"],
  ["compute_infer", "Inference", "is-infer"],
  ["compute_output", "Encoding", "is-encode"],
];
const PLOTS = [
  {
    title: "Throughput",
    unit: "pictures/s",
    series: [
      ["Answered", "is-infer"],
      ["Failed requests", "is-failed"],
    ],
    of: throughput,
  },
  {
    title: "Latency, mean by stage",
    unit: "ms",
    series: [...STAGES.map(([, title, name]) => [title, name]), ["Rest", "is-rest"]],
    of: latency,
  },
  {
    title: "Requests at once, mean",
    unit: "",
    series: [
      ["Waiting", "is-queue"],
      ["In the engine", "is-infer"],
    ],
    of: load,
  },
];

export function watch(model) {
  const plots = PLOTS.map((plan) => new Plot(plan));
  byId("plots").replaceChildren(...plots.map((plot) => plot.figure));
  let before = null;
  const look = async () => {
    before = document.hidden || !model() ? null : await step(model(), before, plots);
    setTimeout(look, EVERY_MS);
  };
  look();
}

// One second: what is counted now, and the difference to before as one more bar of each plot.
async function step(model, before, plots) {
  let now;
  try {
    const found = await ask(`v2/models/${encodeURIComponent(model)}/stats`);
    now = { at: performance.now(), stats: found.model_stats[0] };
  } catch (error) {
    tell(byId("live-words"), error.message);
    return null;
  }
  tell(byId("live-words"), "All clients of this server, second by second.");
  showTotals(now.stats);
  const passed = before && difference(before, now);
  for (const plot of plots) plot.add(passed);
  return now;
}

// null when the server is another than before: its counts began anew.
function difference(before, now) {
  const seconds = (now.at - before.at) / 1000;
  const [old, found] = [before.stats, now.stats];
  if (found.inference_count < old.inference_count || found.inference_stats.fail.count < old.inference_stats.fail.count)
    return null;
  const of = (name) => ({
    count: found.inference_stats[name].count - old.inference_stats[name].count,
    ns: found.inference_stats[name].ns - old.inference_stats[name].ns,
  });
  return { seconds, pictures: found.inference_count - old.inference_count, of };
}

function throughput({ seconds, pictures, of }) {
  return { parts: [pictures / seconds, of("fail").count / seconds], value: pictures / seconds };
}

function latency({ of }) {
  const parts = STAGES.map(([name]) => (of(name).count ? of(name).ns / of(name).count / 1e6 : 0));
  const requests = of("success");
  const value = requests.count ? requests.ns / requests.count / 1e6 : NaN;
  const counted = parts.reduce((sum, part) => sum + part, 0);
  return { parts: [...parts, Math.max(0, value - counted) || 0], value };
}

function load({ seconds, of }) {
  const parts = ["queue", "compute_infer"].map((name) => of(name).ns / 1e9 / seconds);
  return { parts, value: parts[0] + parts[1] };
}

function showTotals(stats) {
  listed(byId("totals"), [
    ["Pictures since start", whole(stats.inference_count)],
    ["Failed requests", whole(stats.inference_stats.fail.count)],
    ["Last inference", stats.last_inference ? ago(stats.last_inference) : "none yet"],
  ]);
}

class Plot {
  constructor(plan) {
    this.plan = plan;
    this.points = []; // newest last; null: nothing is known of that second
    this.now = make("strong", {}, "–");
    this.drawing = draw("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": plan.title,
    });
    this.top = make("span", {}, "");
    const legend = plan.series.map(([title, name]) =>
      make("li", {}, make("span", { class: `swatch ${name}`, "aria-hidden": "true" }), title),
    );
    this.figure = make(
      "figure",
      {},
      make(
        "figcaption",
        {},
        make("span", {}, plan.title),
        make("span", { class: "share" }, this.now, plan.unit && ` ${plan.unit}`),
      ),
      make("div", { class: "plot" }, this.drawing, make("span", { class: "top", "aria-hidden": "true" }, this.top)),
      make("div", { class: "axis", "aria-hidden": "true" }, make("span", {}, "2 min ago"), make("span", {}, "now")),
      make("ul", { class: "legend" }, ...legend),
    );
  }

  add(passed) {
    const point = passed && this.plan.of(passed);
    this.points = [...this.points, point].slice(-KEPT);
    this.now.textContent = point ? rounded(point.value) : "–";
    this.redraw();
  }

  redraw() {
    const heights = this.points.map((point) => (point ? point.parts.reduce((sum, part) => sum + part, 0) : 0));
    const highest = Math.max(...heights);
    const scale = roundUp(highest);
    this.top.textContent = highest > 0 ? `${scale.toLocaleString("en")} ${this.plan.unit}` : "";
    this.drawing.setAttribute(
      "aria-label",
      `${this.plan.title}: now ${this.now.textContent} ${this.plan.unit}, highest of two minutes ${rounded(highest)}`,
    );
    const first = KEPT - this.points.length;
    const bars = this.points.flatMap((point, at) => (point ? this.bars(point, first + at, scale) : []));
    const lines = [0.5, HEIGHT / 2].map((y) => draw("line", { x1: 0, x2: WIDTH, y1: y, y2: y, class: "grid" }));
    this.drawing.replaceChildren(...lines, ...bars);
  }

  bars(point, column, scale) {
    const width = WIDTH / KEPT;
    let y = HEIGHT;
    return point.parts.flatMap((part, index) => {
      const height = (part / scale) * HEIGHT;
      y -= height;
      const place = { x: column * width, y, width: width - 0.6, height, class: this.plan.series[index][1] };
      return height > 0 ? [draw("rect", place)] : [];
    });
  }
}

// The next of 1, 2, 5, 10, 20, ...
function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => value <= step * power) * power;
}
