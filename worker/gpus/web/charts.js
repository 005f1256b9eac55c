// Steps, for a value holds until the next one. Unknown values leave a hole.
const SVG = "http://www.w3.org/2000/svg";
const traces = new Map(); // of cards whose node was opened
const MOST_POINTS = 600;

function draw(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function note(card, at) {
  const trace = traces.get(card.uuid);
  if (!trace) return;
  trace.at.push(at);
  trace.gpu_utilization.push(card.gpu_utilization);
  trace.gpu_memory_usage.push(card.memory_used_gb === null ? null : card.memory_used_gb / card.memory_gb);
  if (trace.at.length > MOST_POINTS) for (const column of Object.values(trace)) column.shift();
}

function steps(times, values, from, until, width, height, closed) {
  const x = (at) => (((Math.max(at, from) - from) / (until - from || 1)) * width).toFixed(1);
  const y = (value) => (height - Math.min(1, value) * height).toFixed(1);
  let path = "", begun = null;
  const close = (end) => { if (closed && begun !== null) path += `V${height}H${begun}Z`; begun = null; return end; };
  values.forEach((value, number) => {
    const start = x(times[number]), end = x(number + 1 < times.length ? times[number + 1] : until);
    if (value === null || value === undefined) return close(end);
    path += begun === null ? `M${start} ${closed ? height : y(value)}V${y(value)}H${end}` : `V${y(value)}H${end}`;
    begun ??= start;
  });
  close();
  return path;
}

function spark(trace) {
  const picture = draw("svg", { viewBox: "0 0 240 40", preserveAspectRatio: "none", role: "img", "aria-label": word("use") });
  if (!trace || !trace.at.length) return picture;
  const from = trace.at[0], until = Math.max(now(), from + 60);
  picture.append(
    draw("path", { class: "grid", d: "M0 40H240" }),
    draw("path", { class: "area", d: steps(trace.at, trace.gpu_utilization, from, until, 240, 40, true) }),
    draw("path", { class: "mem", d: steps(trace.at, trace.gpu_memory_usage, from, until, 240, 40, false) }),
  );
  return picture;
}

function bigChart(trace, seconds) {
  const until = now(), from = Math.max(until - seconds, Math.min(trace.at[0] ?? until - 60, until - 60));
  const picture = draw("svg", { viewBox: "0 0 1000 170", preserveAspectRatio: "none", role: "img", "aria-label": word("use") });
  for (const y of [0.5, 85, 169.5]) picture.append(draw("path", { class: "grid", d: `M0 ${y}H1000` }));
  picture.append(
    draw("path", { class: "area", d: steps(trace.at, trace.held, from, until, 1000, 170, true) }),
    draw("path", { class: "busy", d: steps(trace.at, trace.gpu_utilization, from, until, 1000, 170, false) }),
    draw("path", { class: "mem", d: steps(trace.at, trace.gpu_memory_usage, from, until, 1000, 170, false) }),
  );
  return { picture, from, until };
}
