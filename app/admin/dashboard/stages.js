// The eleven stages, with what waits, runs and died at each; and the shops that hold runs up.

import { post } from "./api.js";
import { confirmed, find, make, notice } from "./dom.js";

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
  showShops(shops);
}

function showShops(shops) {
  const list = find("shops");
  // Drawn anew with every change: the button that has the keyboard keeps it.
  const held = list.contains(document.activeElement) ? document.activeElement.value : null;
  list.replaceChildren(...shops.map((shop) =>
    make("li", { class: shop.parked ? "failed" : "needs_review" },
      make("span", {}, `${shop.shop_domain} ${shop.parked ? "is parked" : "fails and is left alone"}, ` +
        `runs waiting: ${shop.waiting}: ${shop.reason}`),
      ...(shop.parked ? [unparkButton(shop)] : []))));
  [...list.querySelectorAll("button")].find((one) => one.value === held)?.focus();
}

const unparkButton = (shop) => make("button", {
  type: "button", value: shop.merchant_id, "aria-label": `unpark ${shop.shop_domain}`, onclick: () => unpark(shop),
}, "unpark");

async function unpark(shop) {
  if (!(await confirmed(`Is ${shop.shop_domain} put right? It is called again, and its runs go on.`))) return;
  try {
    const { message } = await post(`/api/merchants/${encodeURIComponent(shop.merchant_id)}/unpark`, { who: "page" });
    notice(message);
  } catch (error) {
    notice(error.message);
  }
}
