// The eleven stages, with what waits, runs and died at each.

import { find, make } from "./dom.js";

export function showTotals({ runs, stages }) {
  find("totals").textContent = Object.entries(runs)
    .map(([state, count]) => `${count} ${state.replace("_", " ")}`).join(", ");
  find("stages").replaceChildren(...stages.map((stage) =>
    make("li", { class: stage.active || stage.waiting ? "busy" : null, "data-queue": stage.queue },
      make("b", {}, stage.queue),
      make("span", {}, `${stage.waiting} waiting`),
      make("span", {}, `${stage.active} active`),
      make("span", { class: stage.failed ? "failed" : null }, `${stage.failed} failed`),
      ...(stage.paused ? [make("span", { class: "paused" }, "paused")] : []))));
}
