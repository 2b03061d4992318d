// The eleven stages, with what waits, runs and died at each; and the shops that hold runs up.

import { find, make } from "./dom.js";

export function showTotals({ runs, stages, shops }) {
  find("totals").textContent = Object.entries(runs)
    .map(([state, count]) => `${count} ${state.replace("_", " ")}`).join(", ");
  find("stages").replaceChildren(...stages.map((stage) =>
    make("li", { class: stage.active || stage.waiting ? "busy" : null, "data-queue": stage.queue },
      make("b", {}, stage.queue),
      make("span", {}, `${stage.waiting} waiting`),
      make("span", {}, `${stage.active} active`),
      make("span", { class: stage.failed ? "failed" : null }, `${stage.failed} failed`),
      ...(stage.paused ? [make("span", { class: "paused" }, "paused")] : []))));
  find("shops").replaceChildren(...shops.map((shop) =>
    make("li", { class: shop.parked ? "failed" : "needs_review" },
      `${shop.shop_domain} ${shop.parked ? "is parked" : "fails and is left alone"}, ` +
      `runs waiting: ${shop.waiting}: ${shop.reason}`)));
}
