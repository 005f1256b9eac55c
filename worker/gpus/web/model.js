// What is known of the cluster. Events are applied to it; what comes twice does no harm.
const model = {
  cards: new Map(), nodes: new Map(), allocations: new Map(), waiting: new Map(), holder: new Map(),
  ahead: 0, // seconds that the server's clock is before ours
  changed: new Set(), // names of nodes since the last drawing
};

const STATES = ["held", "foreign", "ill", "free"];
const now = () => Date.now() / 1000 + model.ahead;

const holderOf = (card) => model.allocations.get(model.holder.get(card.uuid));

function stateOf(card) {
  if (model.holder.has(card.uuid)) return "held";
  return card.trouble ? "ill" : card.processes.length || card.pods.length ? "foreign" : "free";
}

function fill(monitoring, held) {
  model.ahead = Date.parse(monitoring.timestamp) / 1000 - Date.now() / 1000;
  for (const part of ["cards", "nodes", "allocations", "waiting", "holder"]) model[part].clear();
  for (const card of monitoring.cards) {
    model.cards.set(card.uuid, card);
    if (!model.nodes.has(card.node_name)) model.nodes.set(card.node_name, { name: card.node_name, cards: [] });
    model.nodes.get(card.node_name).cards.push(card);
  }
  for (const one of held.allocations) hold(one);
  for (const one of held.waiting) model.waiting.set(one.id, one);
  model.changed = new Set(model.nodes.keys());
}

function hold(one) {
  model.allocations.set(one.id, one);
  model.waiting.delete(one.id);
  for (const uuid of one.cards) { model.holder.set(uuid, one.id); touch(uuid); }
}

function touch(uuid) {
  const card = model.cards.get(uuid);
  if (card) model.changed.add(card.node_name);
  return card;
}

const APPLY = {
  made: hold,
  renewed: hold,
  ended(one) {
    model.allocations.delete(one.id);
    for (const uuid of one.cards) {
      if (model.holder.get(uuid) === one.id) model.holder.delete(uuid);
      touch(uuid);
    }
  },
  waiting: (one) => model.waiting.set(one.id, one),
  left: (one) => model.waiting.delete(one.id),
  ill(told) { const card = touch(told.uuid); if (card) card.trouble = told.trouble; },
  well(told) { const card = touch(told.uuid); if (card) card.trouble = ""; },
  figures(told) {
    for (const seen of told.cards) {
      const card = touch(seen.uuid);
      if (!card) continue;
      Object.assign(card, seen);
      note(card, told.at);
    }
  },
};

const mean = (numbers) => (numbers.length ? numbers.reduce((sum, one) => sum + one, 0) / numbers.length : null);
const known = (values) => values.filter((one) => one !== null && one !== undefined);

function load(cards) {
  const told = cards.filter((card) => card.memory_used_gb !== null && card.memory_gb > 0);
  const room = told.reduce((sum, card) => sum + card.memory_gb, 0);
  return {
    busy: mean(known(cards.map((card) => card.gpu_utilization))),
    memory: room ? told.reduce((sum, card) => sum + card.memory_used_gb, 0) / room : null,
  };
}

function count(cards) {
  const counts = { held: 0, foreign: 0, ill: 0, free: 0 };
  for (const card of cards) counts[stateOf(card)]++;
  return counts;
}
