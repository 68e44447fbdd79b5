// Keeps the page up to date by server-sent events, draws the charts, and sends the form. Uses nothing but the browser.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 480, HEIGHT = 180, LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 22;
// By chart: the places in a point of its lines, and whether a line counts per second.
const CHARTS = {
  requests: {lines: [1, 2], perSecond: true},
  latency: {lines: [3, 4]},
  parts: {lines: [6, 5]},
  rows: {lines: [7]},
};

let range = 300;
let latest = null;

function shown(name, value) {
  if (value === null || value === undefined) return "–";
  return name === "model_bytes" ? (value / 1e6).toFixed(1) : String(value);
}

function fill(root, values) {
  for (const place of root.querySelectorAll("[data-value]")) {
    const text = shown(place.dataset.value, values[place.dataset.value]);
    if (place.textContent !== text) place.textContent = text;
  }
}

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function nice(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 5, 10].map(step => step * power).find(step => step >= number);
}

function clock(second) {
  return new Date(second * 1000).toLocaleTimeString([], {hour: "2-digit", minute: "2-digit", second: range > 300 ? undefined : "2-digit"});
}

// Seconds without requests have no point: of what is counted they are zero, of all else there is a gap.
function series(place, chart, step, from, to) {
  const points = new Map((step === 1 ? latest.fine : latest.coarse).map(point => [point[0], point[place]]));
  const found = [];
  for (let second = from - from % step; second <= to; second += step) {
    const value = points.get(second);
    if (chart.perSecond) found.push([second, (value || 0) / step]);
    else found.push([second, value === undefined ? null : value]);
  }
  return found;
}

function draw(figure) {
  const chart = CHARTS[figure.dataset.chart];
  const step = range > 300 ? 15 : 1;
  const to = latest.now - 1, from = to - range;
  const lines = chart.lines.map(place => series(place, chart, step, from, to));
  const values = lines.flat().map(point => point[1]).filter(value => value !== null);
  const most = nice(Math.max(...values, 1e-3));
  const x = second => LEFT + (WIDTH - LEFT - RIGHT) * (second - from) / range;
  const y = value => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most;
  const title = figure.querySelector("figcaption").textContent;
  const last = lines.map(line => line.filter(point => point[1] !== null).pop());
  const told = last.map(point => point === undefined ? "no value" : point[1].toPrecision(3)).join(" and ");
  const svg = element("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}; latest: ${told}`});
  for (const part of [0, 0.5, 1]) {
    svg.append(element("line", {class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(most * part), y2: y(most * part)}));
    svg.append(element("text", {x: LEFT - 6, y: y(most * part) + 4, "text-anchor": "end"}, String(+(most * part).toPrecision(2))));
  }
  for (const [second, anchor] of [[from, "start"], [to, "end"]]) {
    svg.append(element("text", {x: x(second), y: HEIGHT - 6, "text-anchor": anchor}, clock(second)));
  }
  for (const [second, id] of latest.marks) {
    if (second < from) continue;
    const mark = element("line", {class: "mark", x1: x(second), x2: x(second), y1: TOP, y2: HEIGHT - BOTTOM});
    mark.append(element("title", {}, `another version came at ${clock(second)} (${id})`));
    svg.append(mark);
  }
  lines.forEach((line, number) => {
    let path = "", before = null;
    line.forEach(([second, value], place) => {
      if (value !== null) {
        const alone = before === null && (place + 1 >= line.length || line[place + 1][1] === null);
        if (alone) svg.append(element("circle", {class: `dot${number}`, cx: x(second), cy: y(value), r: 2}));
        else path += `${before === null ? "M" : "L"}${x(second).toFixed(1)} ${y(value).toFixed(1)}`;
      }
      before = value;
    });
    if (path) svg.append(element("path", {class: `line${number}`, d: path}));
  });
  const old = figure.querySelector("svg");
  if (old) old.replaceWith(svg); else figure.append(svg);
}

function cells(...texts) {
  const row = document.createElement("tr");
  for (const text of texts) row.insertCell().textContent = text;
  return row;
}

function showErrors(errors) {
  const body = document.getElementById("last-errors");
  if (!body || !errors.length) return;
  body.replaceChildren(...errors.slice().reverse().map(one => cells(new Date(one.at * 1000).toLocaleTimeString(), one.kind, one.text)));
}

function took(data) {
  if (data.deployments) {
    for (const one of data.deployments) {
      const row = document.querySelector(`tr[data-name="${CSS.escape(one.name)}"]`);
      if (row) fill(row, one);
    }
    return;
  }
  latest = data;
  fill(document, data);
  showErrors(data.last_errors);
  document.querySelectorAll("figure").forEach(draw);
}

function listen() {
  const where = document.body.dataset.events;
  if (!where) return;
  const state = document.getElementById("state");
  const source = new EventSource(where);
  source.onmessage = event => { state.textContent = "live"; took(JSON.parse(event.data)); };
  source.onerror = () => { state.textContent = "not connected"; };
}

function ranges() {
  const buttons = document.querySelectorAll("[data-range]");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      range = Number(button.dataset.range);
      buttons.forEach(one => one.setAttribute("aria-pressed", String(one === button)));
      if (latest) document.querySelectorAll("figure").forEach(draw);
    });
  }
}

async function predict(event) {
  event.preventDefault();
  const form = event.target, answer = document.getElementById("answer"), status = document.getElementById("took");
  status.textContent = "…";
  const began = performance.now();
  try {
    const body = document.getElementById("input").value;
    const reply = await fetch(form.action, {method: "POST", headers: {"content-type": "application/json"}, body});
    const text = await reply.text();
    const passed = (performance.now() - began).toFixed(1);
    const server = reply.headers.get("server-timing");
    status.textContent = `${reply.status} after ${passed} ms` + (server ? ` (${server.replaceAll(";dur=", " ")} ms)` : "");
    answer.classList.toggle("failed", !reply.ok);
    answer.textContent = readable(text);
  } catch (error) {
    status.textContent = "no answer";
    answer.classList.add("failed");
    answer.textContent = String(error);
  }
  answer.focus();
}

function readable(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 1);
  } catch (error) {
    return text;
  }
}

ranges();
listen();
const form = document.getElementById("try");
if (form) form.addEventListener("submit", predict);
