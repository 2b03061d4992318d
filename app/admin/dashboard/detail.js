// One order in full, and what a person may do to it.

import { get, post, Refused } from "./api.js";
import { confirmed, find, make, notice, table } from "./dom.js";
import { markChosen } from "./orders.js";
import { approvals, planSection } from "./plan.js";
import { amount, lasted, moment, outcome, quantity, title, why } from "./words.js";

let shown = null;
let drawings = 0;
let shops = new Map();

export function knowShops(merchants) {
  shops = new Map(merchants.map((merchant) => [merchant.id, merchant.shop_domain]));
}

export const shownRun = () => shown;

// Show a run; `focus` when a person chose it, not when it merely changed under their eyes.
export async function showDetail(runId, { focus }) {
  shown = runId;
  markChosen(runId);
  const panel = find("detail");
  panel.hidden = runId === null;
  if (runId === null) return panel.replaceChildren();
  const before = drawings;
  const { order } = await get(`/api/orders/${encodeURIComponent(runId)}`);
  // While we asked, somebody may have gone elsewhere, or begun to work in what an event has drawn meanwhile.
  const news = focus && drawings === before;
  if (shown !== runId || (!news && isBeingFilledIn())) return;
  drawings += 1;
  const held = panel.contains(document.activeElement) ? document.activeElement : null;
  panel.replaceChildren(...parts(order, focus));
  if (news) find("detail-title").focus();
  else if (held !== null) takeUp(successorOf(panel, held));
  else if (focus) find("detail-title").focus();
}

// What somebody has counted so far is not replaced under their hands.
export function isBeingFilledIn() {
  return [...find("detail").querySelectorAll("input")].some((input) => input.value !== input.defaultValue);
}

// Why a picture is as it is, and what we left in the shop's staging area for it.
function pictureNote(image) {
  const left = image.unused_uploads;
  const files = left ? `${left} uploaded and never attached (the shop discards such files within a day)` : "";
  return [image.reason, files].filter(Boolean).join("; ");
}

// What now stands where the keyboard was before the panel was drawn anew.
function successorOf(panel, held) {
  const same = held.name
    ? (one) => one.name === held.name
    : (one) => one.textContent === held.textContent;
  return [...panel.querySelectorAll("button, a, input")].find(same) ?? find("detail-title");
}

// A field is taken up as the Tab key would: what is typed replaces what stands there.
function takeUp(element) {
  element.focus();
  if (element instanceof HTMLInputElement) element.select();
}

function parts(order, focus) {
  const { run } = order;
  return [
    make("h2", { id: "detail-title", tabindex: "-1" }, title(run)),
    facts(order),
    ...reasons(run),
    ...(order.has_plan ? [planSection(run, {
      again: focus, approve: (plan) => approve(run, plan), choose: (product, said) => choose(run, product, said),
    })] : []),
    actions(order),
    ...section("Stages", order.stages, stages),
    ...section("Lines", order.lines, (lines) => linesTable(lines, run.currency)),
    ...section("In the shop", order.variants, (variants) => variantsTable(variants, run)),
    ...section("Pictures", order.images, (images) =>
      table([["Address"], ["State"], ["Why"]], images.map((image) => [image.url, image.state, pictureNote(image)]))),
    ...section("Receipts", order.receipts, (receipts) =>
      table([["When"], ["What"], ["By"], ["Accepted", true], ["Rejected", true], ["State"]], receipts.map((receipt) =>
        [moment(receipt.created_at), receipt.action, receipt.entered_by, receipt.accepted, receipt.rejected, receipt.state]))),
    ...section("Approvals", order.approvals, approvals),
    ...section("Who did what", order.audit, (notes) =>
      table([["When"], ["Who"], ["What"]], notes.map((note) => [moment(note.at), note.who, note.action]))),
  ];
}

function section(heading, entries, build) {
  return entries.length ? [make("h3", {}, heading), build(entries)] : [];
}

function facts({ run, order_state: orderState }) {
  const known = [
    ["Outcome", make("span", { class: run.state }, outcome(run))],
    ["Why", why(run)],
    ["Stage", run.stage ?? run.failed_stage],
    ["Order", [run.number, orderState.replace("_", " ")].filter(Boolean).join(", ")],
    ["Supplier", run.supplier],
    ["Total", amount(run.total, run.currency)],
    ["Merchant", run.merchant_id],
    ["Approved by", run.approved_by],
    ["Began", moment(run.created_at)],
    ["Run", run.run_id],
  ];
  return make("dl", {}, ...known.filter(([, value]) => value)
    .flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function reasons(run) {
  if (!run.review.length) return [];
  const say = (doubt) => (doubt.line === null ? doubt.message : `Line ${doubt.line}: ${doubt.message}`);
  return [make("h3", {}, "What to look at"), make("ul", {}, ...run.review.map((doubt) => make("li", {}, say(doubt))))];
}

function stages(attempts) {
  return table([["Stage"], ["Try", true], ["State"], ["Began"], ["Took", true], ["Why"]], attempts.map((one) =>
    [one.stage, one.attempt, one.state, moment(one.started_at), lasted(one.started_at, one.ended_at), one.error]));
}

function linesTable(lines, currency) {
  return table(
    [["#", true], ["Kind"], ["SKU"], ["As printed"], ["Quantity", true], ["Cost", true], ["Units", true], ["Price", true], ["Packs"]],
    lines.map((line) => [
      line.position, line.kind.replace("_", " "), line.sku, line.description, `${quantity(line.quantity)} ${line.unit}`.trim(),
      amount(line.unit_cost, currency), line.units ?? "", amount(line.price), line.packs,
    ]));
}

function variantsTable(variants, run) {
  return table(
    [["Product"], ["SKU"], ["In the shop"], ["Ordered", true], ["Announced", true], ["Received", true], ["Rejected", true], ["Open", true]],
    variants.map((variant) => [
      [variant.title, ...Object.values(variant.options)].join(", "), variant.sku, shopLink(variant.product_id, run.merchant_id),
      variant.expected, variant.announced, variant.received, variant.rejected, variant.open,
    ]));
}

function shopLink(productId, merchantId) {
  const number = /^gid:\/\/shopify\/Product\/(\d+)$/.exec(productId)?.[1];
  const shop = shops.get(merchantId) ?? "";
  if (!number || !/^[a-z0-9.-]+$/i.test(shop)) return productId;
  return make("a", { href: `https://${shop}/admin/products/${number}`, rel: "noopener noreferrer" }, number);
}

// ------------------------------------------------------------------------------------------ actions

function actions(order) {
  const { run } = order;
  const act = (verb, question) => make("button", { type: "button", onclick: () => command(run, verb, question) }, verb);
  const found = [];
  if (run.state === "needs_review" && !order.has_plan) {
    found.push(act("approve", `Approve ${title(run)}? It goes on where it left the line.`));
  }
  if (run.state === "failed") found.push(act("retry", `Run ${run.failed_stage} of ${title(run)} again?`));
  if (["running", "needs_review", "failed"].includes(run.state)) {
    found.push(act("cancel", `Cancel ${title(run)}? It ends for good. What the shop was told already stays there until the order is undone.`));
  }
  const over = order.receipts.some((receipt) => receipt.action === "undo" && receipt.state !== "failed");
  const inShop = !["", "draft"].includes(order.order_state) || order.effects.some((one) => !one.key.startsWith("plan:"));
  if (run.kind === "order" && !run.stage && !over && inShop) {
    found.push(act("undo", `Undo ${title(run)}? Products it created and nobody has touched are archived, and what it announced is taken back. What was edited or received stays.`));
  }
  const open = order.variants.filter((variant) => variant.open > 0);
  if (run.kind === "order" && open.length) {
    found.push(act("close", `Close ${title(run)}? What is still open never comes; its announcement is taken back.`));
    found.push(act("cancel-announcement", `Call off ${title(run)}? What was announced and has not come is taken back. Its products stay.`));
  }
  const form = run.kind === "order" && open.length ? [receiveForm(run, open)] : [];
  return make("div", {}, make("div", { class: "actions" }, ...found), ...form);
}

async function command(run, verb, question) {
  if (!(await confirmed(question))) return;
  await attempt(run, () => post(`/api/orders/${encodeURIComponent(run.run_id)}/${verb}`, { who: "page" }), `${verb}: done`);
}

async function approve(run, plan) {
  const does = plan ? plan.summary : "Nobody has read what it does in the shop: it does what it finds to do.";
  if (!(await confirmed(`Approve ${title(run)}? ${does}`))) return;
  const body = plan ? { who: "page", plan: plan.digest } : { who: "page", without_plan: true };
  await attempt(run, () => post(`/api/orders/${encodeURIComponent(run.run_id)}/approve`, body), "approve: done");
}

async function choose(run, product, said) {
  const what = said === "new" ? "a new product" : `the product ${said}`;
  if (!(await confirmed(`“${product.title}” is ${what}? Nothing happens in the shop before you approve.`))) return;
  const body = { who: "page", draft: product.draft_id, product: said };
  await attempt(run, () => post(`/api/orders/${encodeURIComponent(run.run_id)}/match`, body), "match: done");
}

function receiveForm(run, variants) {
  const field = (variant, kind, value) => make("input", {
    type: "number", min: "0", step: "1", value, name: `${kind}:${variant.draft_variant_id}`,
    "aria-label": `${variant.sku || variant.title}, ${kind}`,
  });
  const rows = variants.map((variant) => [
    variant.sku || variant.title, variant.open, field(variant, "accepted", "0"), field(variant, "rejected", "0"),
  ]);
  const form = make("form", {
    id: "receive",
    onsubmit: (event) => { event.preventDefault(); receive(run, { lines: counted(form, variants) }); },
  },
  make("h3", {}, "Receive goods"),
  table([["SKU"], ["Open", true], ["Accepted", true], ["Rejected", true]], rows),
  make("button", {}, "receive what is counted"),
  make("button", { type: "button", onclick: () => receive(run, { all: true }) }, "receive all that is open"));
  return form;
}

function counted(form, variants) {
  const units = (kind, variant) => Number(form.elements[`${kind}:${variant.draft_variant_id}`].value) || 0;
  return variants
    .map((variant) => ({
      sku: variant.draft_variant_id, accepted: units("accepted", variant), rejected: units("rejected", variant),
    }))
    .filter((line) => line.accepted || line.rejected);
}

async function receive(run, what) {
  const sum = what.all ? "all that is open" : `${what.lines.reduce((all, line) => all + line.accepted, 0)} units`;
  if (!(await confirmed(`Receive ${sum}? They become sellable in the shop.`))) return;
  const path = `/api/orders/${encodeURIComponent(run.run_id)}/receipts`;
  const body = { ...what, who: "page" };
  await attempt(run, async () => {
    try {
      await post(path, body);
    } catch (error) {
      const over = error instanceof Refused && error.message.includes("confirm the over-receipt");
      if (!over || !(await confirmed(`${error.message}\n\nReceive them all the same?`))) throw error;
      await post(path, { ...body, confirm_over: true });
    }
  }, "receive: done");
}

async function attempt(run, act, success) {
  try {
    await act();
    notice(success);
  } catch (error) {
    notice(error.message);
  }
  await showDetail(run.run_id, { focus: true });
}
