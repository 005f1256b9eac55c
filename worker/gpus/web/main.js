// What happens when.
const DRAW_MS = 250;
const RANGES = { hour: 3600, day: 86400, week: 604800 };
const HISTORY_MS = 60000;
const state = { range: "hour", history: { at: [], held: [], gpu_utilization: [], gpu_memory_usage: [] }, seen: 0, drawing: false, link: "connecting" };

function drawChart() {
  const told = state.history, cards = [...model.cards.values()], use = load(cards);
  const latest = { at: now(), held: cards.length ? count(cards).held / cards.length : null, gpu_utilization: use.busy, gpu_memory_usage: use.memory };
  const trace = Object.fromEntries(Object.entries(latest).map(([key, value]) => [key, [...told[key], value]]));
  const { picture, from, until } = bigChart(trace, RANGES[state.range]);
  const key = (name, kind) => {
    const line = draw("svg", { viewBox: "0 0 26 10" }, draw("path", { class: name, d: kind === "area" ? "M0 10V4H26V10" : "M0 5H26" }));
    return el("span", "", line, word(name === "area" ? "chart_held" : name === "busy" ? "busy" : "memory"));
  };
  $("chart").replaceChildren(
    el("div", "key", key("area", "area"), key("busy"), key("mem"), el("span", "", "0 – 100 %")),
    picture,
    el("div", "axis", ...[from, (from + until) / 2, until].map((at) => el("span", "", clock(at, until - from < 600)))),
  );
}

function drawAll() {
  speak();
  for (const [name, row] of shown.rows) if (model.nodes.has(name)) drawNode(model.nodes.get(name), row); else shown.rows.delete(name);
  say();
  drawTop();
  drawChart();
  choose();
  drawTables();
  model.changed.clear();
}

function choices(id, names, chosen, act) {
  $(id).replaceChildren(...names.map((name) => {
    const button = Object.assign(el("button"), { type: "button" });
    button.dataset.word = name;
    button.setAttribute("aria-pressed", name === chosen);
    button.onclick = () => {
      for (const other of $(id).children) other.setAttribute("aria-pressed", other === button);
      act(name);
    };
    return button;
  }));
}

// Some four times a second at most, and of the nodes only those that changed.
function soon() {
  if (state.drawing) return;
  state.drawing = true;
  setTimeout(() => {
    state.drawing = false;
    const moved = shown.filter !== "all" || shown.sort !== "by_name" || $("search").value;
    for (const name of model.changed) {
      const row = shown.rows.get(name);
      if (row && model.nodes.has(name)) drawNode(model.nodes.get(name), row);
    }
    if (moved && model.changed.size) choose();
    model.changed.clear();
    drawTop();
    drawChart();
    drawTables();
  }, DRAW_MS);
}

async function open(name) {
  const node = model.nodes.get(name), row = shown.rows.get(name);
  if (!node || !row) return;
  drawPanels(node, row);
  const asked = node.cards.slice(0, 64).map((card) => `card=${encodeURIComponent(card.uuid)}`);
  try {
    const told = await ask(`/monitoring?${asked.join("&")}`);
    for (const [uuid, trace] of Object.entries(told.history)) traces.set(uuid, trace);
  } catch { return; } // without its history then; the connection says for itself what is wrong
  if (row.open && model.nodes.has(name)) drawPanels(model.nodes.get(name), row);
}

async function history() {
  const told = await ask(`/monitoring?card=&since=${Math.floor(now() - RANGES[state.range])}`);
  state.history = told.history_all;
}

async function snapshot() {
  const monitoring = await ask("/monitoring");
  fill(monitoring, await ask("/allocations"));
  await history();
  drawAll();
  return monitoring.event;
}

function say(link = state.link, why = "") {
  if (link !== state.link || why) $("banner").textContent = why;
  state.link = link;
  $("link").dataset.state = link;
  $("link").lastChild.textContent = word(link);
  $("main").classList.toggle("stale", link === "lost");
  $("banner").hidden = link === "live" || !$("banner").textContent;
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function enter(wrong) {
  $("refused").hidden = !wrong;
  $("token").value = "";
  $("door").showModal();
  return new Promise((done) => {
    $("door").onclose = () => { sessionStorage.setItem("token", $("token").value); done(); };
    $("door").oncancel = (event) => event.preventDefault();
  });
}

const RELOAD = new Set(["gap", "dropped", "cards", "ready"]);

async function run() {
  let after = "", tries = 0;
  const alive = () => {
    tries = 0;
    state.seen = now();
    if (state.link !== "unready") say("live");
  };
  for (;;) {
    let again = false; // a fresh look, and nothing is wrong
    try {
      if (!after) {
        after = await snapshot();
        say("connecting");
      }
      await follow(after, (kind, told, id) => {
        again = RELOAD.has(kind);
        after = again ? "" : id;
        if (kind === "not_ready") say("unready", word("not_ready", told.why));
        if (APPLY[kind]) { APPLY[kind](told); soon(); }
        return again;
      }, alive);
      if (!again) throw new Error("the server went away");
    } catch (error) {
      if (error instanceof NeedsToken) {
        await enter(sessionStorage.getItem("token"));
        continue;
      }
      if (error instanceof NotReady || state.link === "unready") after = "";
      if (error instanceof NotReady) say("unready", error.message);
      else say("lost", word("lost_long", clock(state.seen || now())));
    }
    await pause(again ? 300 : Math.min(500 * 2 ** tries++, 10000));
  }
}

$("language").onclick = () => {
  root.lang = root.lang === "zh" ? "en" : "zh";
  localStorage.setItem("lang", root.lang);
  drawAll();
};
$("search").oninput = () => { shown.many = PAGE; choose(); drawTables(); };
$("sort").onchange = () => { shown.sort = $("sort").value; choose(); };
$("all").onclick = () => { shown.all = true; drawTables(); };
new IntersectionObserver((seen) => {
  if (!seen.some((one) => one.isIntersecting) || shown.nodes.length <= shown.many) return;
  const before = shown.many;
  shown.many += PAGE;
  $("list").append(...shown.nodes.slice(before, shown.many).map(nodeRow));
  $("more").hidden = shown.nodes.length <= shown.many;
}, { rootMargin: "800px" }).observe($("more"));
setInterval(tick, 1000);
setInterval(() => { if (state.link === "live") history().then(drawChart, () => {}); }, HISTORY_MS);
root.lang = localStorage.getItem("lang") ?? root.lang;
choices("ranges", Object.keys(RANGES), state.range, (name) => { state.range = name; history().then(drawChart, () => {}); });
choices("filters", ["all", ...STATES], shown.filter, (name) => { shown.filter = name; shown.many = PAGE; choose(); });
for (const name of Object.keys(ORDER)) {
  const option = Object.assign(el("option"), { value: name });
  option.dataset.word = name;
  $("sort").append(option);
}
speak();
run();
