// From the model to the page. All text goes through textContent: names are anybody's.
const $ = (id) => document.getElementById(id);
const PAGE = 80; // nodes that are added at once
const FIRST = 50; // allocations shown before one asks for all
const shown = { filter: "all", sort: "by_name", nodes: [], rows: new Map(), many: PAGE, all: false };

function el(tag, name = "", ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children.filter((one) => one !== null));
  return made;
}

function meter(kind, share, text) {
  const bar = el("u", "", el("i"));
  bar.firstChild.style.setProperty("--share", Math.min(1, share ?? 0));
  return el("span", `meter ${kind}`, el("span", "", word(kind === "memory" ? "memory" : "busy")), bar, el("span", "", text ?? percent(share)));
}

function cell(card) {
  const state = stateOf(card), made = el("i", `cell ${state}`), owner = holderOf(card)?.owner;
  if (card.gpu_utilization !== null) made.style.setProperty("--busy", card.gpu_utilization);
  made.title = [`#${card.index} ${word(state)}`, owner, card.trouble, card.gpu_utilization === null ? "" : percent(card.gpu_utilization)].filter(Boolean).join(" · ");
  return made;
}

function drawTop() {
  const cards = [...model.cards.values()], counts = count(cards), use = load(cards);
  $("summary").textContent = word("summary", whole(cards.length), whole(model.nodes.size));
  document.title = `${counts.free} ${word("free")} · GPUs`;
  const tile = (text, value, bad = false) => el("div", bad ? "tile bad" : "tile", el("b", "", value), el("span", "", text));
  $("tiles").replaceChildren(
    tile(word("free_of", whole(cards.length)), whole(counts.free)),
    tile(word("held"), whole(counts.held)),
    tile(word("foreign"), whole(counts.foreign)),
    tile(word("ill"), whole(counts.ill), counts.ill > 0),
    tile(word("waiting"), whole(model.waiting.size)),
    tile(word("busy"), percent(use.busy)),
    tile(word("memory"), percent(use.memory)),
  );
  $("share").setAttribute("aria-label", STATES.map((state) => `${counts[state]} ${word(state)}`).join(", "));
  $("share").replaceChildren(...STATES.filter((state) => counts[state]).map((state) => {
    const part = el("i", state);
    part.style.flexGrow = counts[state];
    return part;
  }));
  $("legend").replaceChildren(...STATES.map((state) => el("span", "", el("i", `cell ${state}`), word(state))));
}

function nodeText(node) {
  const words = [node.name];
  for (const card of node.cards) words.push(card.gpu_type, holderOf(card)?.owner ?? "", card.trouble, card.uuid, model.holder.get(card.uuid) ?? "");
  return words.join("\n").toLowerCase();
}

const collator = new Intl.Collator(undefined, { numeric: true });
const ORDER = {
  by_name: () => 0,
  by_free: (node) => -count(node.cards).free,
  by_busy: (node) => -(load(node.cards).busy ?? count(node.cards).held / node.cards.length),
  by_trouble: (node) => -count(node.cards).ill,
};

function choose() {
  const wanted = $("search").value.trim().toLowerCase();
  const keyed = [...model.nodes.values()]
    .filter((node) => shown.filter === "all" || node.cards.some((card) => stateOf(card) === shown.filter))
    .filter((node) => !wanted || nodeText(node).includes(wanted))
    .map((node) => [ORDER[shown.sort](node), node]);
  keyed.sort((a, b) => a[0] - b[0] || collator.compare(a[1].name, b[1].name));
  shown.nodes = keyed.map(([, node]) => node);
  $("count").textContent = word("shown", whole(shown.nodes.length), whole(model.nodes.size));
  $("list").replaceChildren(...shown.nodes.slice(0, shown.many).map(nodeRow));
  if (!shown.nodes.length) $("list").replaceChildren(el("p", "soft", word("nothing")));
  $("more").hidden = shown.nodes.length <= shown.many;
}

function nodeRow(node) {
  let row = shown.rows.get(node.name);
  if (!row) {
    row = el("details", "node", el("summary"));
    row.dataset.node = node.name;
    row.addEventListener("toggle", () => { if (row.open) open(node.name); });
    shown.rows.set(node.name, row);
    drawNode(node, row);
  }
  return row;
}

function drawNode(node, row) {
  const counts = count(node.cards), use = load(node.cards);
  const kinds = [...new Set(node.cards.map((card) => `${card.gpu_type || "?"} ${Math.round(card.memory_gb)} GB`))];
  const owners = [...new Set(node.cards.map((card) => holderOf(card)?.owner).filter(Boolean))];
  const trouble = node.cards.find((card) => card.trouble);
  const cells = el("span", "cells", ...node.cards.map(cell));
  cells.setAttribute("role", "img");
  cells.setAttribute("aria-label", STATES.filter((state) => counts[state]).map((state) => `${counts[state]} ${word(state)}`).join(", "));
  const who = el("span", trouble ? "who trouble" : "who", trouble ? `#${trouble.index} ${trouble.trouble}` : owners.join(", "));
  who.title = who.textContent;
  row.firstChild.replaceChildren(el("b", "", node.name), el("span", "soft", kinds.join(", ")), cells, meter("busy", use.busy), meter("memory", use.memory), who);
  if (row.open) drawPanels(node, row);
}

function drawPanels(node, row) {
  const panels = el("div", "panels", ...node.cards.map(panel));
  if (row.children[1]) row.children[1].replaceWith(panels);
  else row.append(panels);
}

function panel(card) {
  const state = stateOf(card), held = holderOf(card), facts = el("dl");
  const fact = (key, value) => { if (value !== null && value !== undefined && value !== "") facts.append(el("dt", "", word(key)), value instanceof Node ? value : el("dd", "", String(value))); };
  if (held) {
    fact("owner", held.owner || word("nameless"));
    fact("id", el("dd", "mono", held.id));
    fact("since", clock(held.made));
    const left = el("dd");
    left.dataset.until = held.until;
    left.textContent = span(held.until - now());
    fact("lease", left);
  }
  const rounded = (value, unit) => (value === null ? null : `${Math.round(value)} ${unit}`);
  fact("temperature", rounded(card.temperature_c, "°C"));
  fact("power", rounded(card.power_w, "W"));
  fact("clock", rounded(card.clock_mhz, "MHz"));
  fact("xid", card.xid === 0 ? word("none") : card.xid);
  const figures = new Map(card.process_figures.map((one) => [one.pid, one]));
  const process = (pid) => [pid, figures.get(pid)?.memory_used_gb?.toFixed(1).concat(" GB"), figures.get(pid)?.gpu_utilization != null && percent(figures.get(pid).gpu_utilization)].filter(Boolean).join(" · ");
  fact("processes", card.processes.length ? card.processes.map(process).join("\n") : null);
  const memory = card.memory_used_gb === null ? `– / ${card.memory_gb.toFixed(0)} GB` : `${card.memory_used_gb.toFixed(1)} / ${card.memory_gb.toFixed(0)} GB`;
  return el(
    "div", `panel ${state}`,
    el("h3", "", el("i", `cell ${state}`), `#${card.index} ${card.gpu_type}`, el("em", "", word(state))),
    card.trouble ? el("p", "why", card.trouble) : null,
    meter("busy", card.gpu_utilization),
    meter("memory", card.memory_used_gb === null ? null : card.memory_used_gb / card.memory_gb, memory),
    traces.has(card.uuid) ? spark(traces.get(card.uuid)) : null,
    facts,
  );
}

function countdown(until) {
  const made = el("td", "time", span(until - now()));
  made.dataset.until = until;
  return made;
}

function drawTables() {
  const wanted = $("search").value.trim().toLowerCase();
  const where = (one) => one.nodes.map((name) => `${name}: ${one.cards.map((uuid) => model.cards.get(uuid)).filter((card) => card?.node_name === name).map((card) => `#${card.index}`).join(" ") || "–"}`).join(", ");
  const held = [...model.allocations.values()]
    .filter((one) => !wanted || `${one.owner}\n${one.id}\n${one.asked}\n${one.nodes.join("\n")}`.toLowerCase().includes(wanted))
    .sort((a, b) => b.made - a.made);
  $("allocations").replaceChildren(...held.slice(0, shown.all ? held.length : FIRST).map((one) => el(
    "tr", "", el("td", "", one.owner || word("nameless")), el("td", "", where(one)), el("td", "", one.asked),
    el("td", "time", clock(one.made)), countdown(one.until), el("td", "mono", one.id),
  )));
  if (!held.length) {
    const none = el("td", "none", word(wanted ? "nothing" : "nobody"));
    none.colSpan = 6;
    $("allocations").replaceChildren(el("tr", "", none));
  }
  $("all").hidden = shown.all || held.length <= FIRST;
  $("all").textContent = word("more", whole(held.length));
  const line = [...model.waiting.values()].sort((a, b) => b.priority - a.priority || a.since - b.since);
  $("line").hidden = !line.length;
  $("waiting").replaceChildren(...line.slice(0, 200).map((one) => {
    const since = el("td", "time", span(now() - one.since));
    since.dataset.since = one.since;
    return el("tr", "", el("td", "", one.owner || word("nameless")), el("td", "", one.asked), el("td", "", String(one.priority)), since, countdown(one.until));
  }));
}

function tick() {
  for (const one of document.querySelectorAll("[data-until]")) one.textContent = span(one.dataset.until - now());
  for (const one of document.querySelectorAll("[data-since]")) one.textContent = span(now() - one.dataset.since);
}
