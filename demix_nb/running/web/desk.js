// The desk: sliders, what is expected of them, the recipe, and how a mixture leaves the page. `mixing.js` computes.

const KNOWN = JSON.parse(document.getElementById("desk-data").textContent);
let SURFACES = KNOWN.exact ? [] : KNOWN.tasks.map((task) => new Surface(KNOWN.runs, task));
const PLAIN = /^(?!(?:y|n|yes|no|true|false|on|off|null)$)[A-Za-z_][\w-]*$/i; // a name that YAML takes as it stands

const desk = {shares: [], origin: null, locked: new Set(), preset: null, budget: KNOWN.budget};

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const grouped = (count) => Math.round(count).toLocaleString("en-US");

/** A new element: `facts` are its attributes, functions among them listen. */
function made(tag, facts = {}, ...inside) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...inside);
  return node;
}

function find(id) {
  return document.getElementById(`desk-${id}`);
}

// --- the mixture

function put(shares, preset = null) {
  desk.shares = shares;
  desk.preset = preset;
  show();
}

function start(name) {
  const wanted = KNOWN.presets[name], inside = settled(wanted, KNOWN.bounds);
  put(inside, name);
  return inside === wanted ? "" : `${name} lies outside of what is allowed: this is the nearest mixture that does not.`;
}

function move(i, wanted) {
  desk.origin ??= desk.shares;
  put(moved(desk.origin, i, wanted, desk.locked, KNOWN.bounds));
  const held = [...desk.locked].filter((j) => j !== i).map((j) => [j, desk.shares[j]]);
  const [least, most] = room(i, pinned(KNOWN.bounds, held));
  const name = KNOWN.candidates[i], tight = most - least <= 1e-12;
  if (tight) return `${name} cannot move: what is held leaves exactly ${percent(least)}. Let another go.`;
  const cut = Math.abs(desk.shares[i] - wanted) > 5e-4;
  return cut ? `${name} goes from ${percent(least)} to ${percent(most)}: bounds and held sliders leave no more.` : "";
}

function drag(f, wanted) {
  desk.origin ??= desk.shares;
  put(drawn(SURFACES[f], desk.origin, wanted, desk.locked, KNOWN.bounds));
  const {name, unit} = KNOWN.tasks[f], far = SURFACES[f].mean(desk.shares) - wanted;
  const missed = Math.abs(far) > 1e-3 * SURFACES[f].scale;
  const said = KNOWN.exact ? "has" : "is predicted";
  return missed ? `No allowed mixture near this one ${said} ${wanted.toFixed(3)} ${unit} in ${name}.` : "";
}

/** Tell what hindered a move, or that nothing did. */
function tell(text) {
  desk.told = text;
  find("said").textContent = text;
}

/** The hand rests: say where we are, and let the address carry it. */
function rest(text) {
  desk.origin = null;
  tell(`${text} ${KNOWN.exact ? "Place" : "Predicted place"} ${standing().join(" of ")}.`.trim());
  history.replaceState(null, "", `#${fragment()}`);
}

function standing() {
  const means = SURFACES.map((surface) => surface.mean(desk.shares));
  return [place(means, KNOWN.among, KNOWN.tasks.map((task) => task.higher)), KNOWN.among.length + 1];
}

// --- how it leaves the page, and comes back

/** Shares in whole steps that sum to 1, by largest remainder. */
function whole(shares, step) {
  const total = sum(shares), steps = shares.map((share) => share / total / step);
  const floors = steps.map((value) => Math.floor(value + 1e-9));
  const order = steps.map((value, i) => [value - floors[i], i]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  for (const [, i] of order.slice(0, Math.round(1 / step) - sum(floors))) floors[i] += 1;
  return floors.map((value) => value * step);
}

function fragment() {
  const steps = whole(desk.shares, 1e-6);
  return KNOWN.candidates.map((name, i) => `${encodeURIComponent(name)}=${+steps[i].toFixed(6)}`).join("&");
}

/** Return the shares that a fragment names; null where they are none of this run. */
function carried(text) {
  const told = new Map(new URLSearchParams(text));
  const shares = KNOWN.candidates.map((name) => Number(told.get(name) ?? NaN)), total = sum(shares);
  return told.size === shares.length && shares.every((share) => share >= 0) && total > 0 && Number.isFinite(total)
    ? shares.map((share) => share / total) : null;
}

function recipe() {
  const own = KNOWN.general === null ? 1 : KNOWN.beta;
  return KNOWN.candidates.map((name, i) => own * desk.shares[i] + (name === KNOWN.general) * (1 - own));
}

function yaml() {
  const part = (title, shares) => {
    const steps = whole(shares, 1e-6);
    const names = KNOWN.candidates.map((name) => (PLAIN.test(name) ? name : JSON.stringify(name)));
    return [`${title}:`, ...names.map((name, i) => `  ${name}: ${steps[i].toFixed(6)}`)];
  };
  return [...part("mixture", desk.shares), ...part("recipe", recipe()), ""].join("\n");
}

async function copy(text, what) {
  const field = made("textarea", {class: "away", "aria-hidden": "true"}, text);
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy"); // works from disk as well, where a page has no clipboard of its own
  field.remove();
  find("said").textContent = done ? `${what} is in the clipboard.` : "This browser gives no access to the clipboard.";
}

// --- the picture

function slider(i) {
  const name = KNOWN.candidates[i], {low, high} = KNOWN.bounds, hue = KNOWN.hues[i];
  const bound = low[i] > 0 || high[i] < 1 ? [made("small", {}, ` ${percent(low[i])} to ${percent(high[i])}`)] : [];
  const range = made("input", {
    type: "range", id: `desk-share-${i}`, min: 0, max: 100, step: 0.1,
    input: ({target}) => tell(move(i, target.value / 100)), change: () => rest(desk.told),
    keydown: (event) => key(event, (by) => move(i, desk.shares[i] + by / 100)),
  });
  const hold = ({target}) => desk.locked[target.checked ? "add" : "delete"](i);
  return made("div", {class: "desk-row", style: `--hue: ${hue}`},
    made("label", {for: `desk-share-${i}`, title: name}, name, ...bound), range,
    made("output", {for: `desk-share-${i}`, id: `desk-value-${i}`, "aria-live": "off"}),
    made("label", {class: "hold"}, made("input", {type: "checkbox", "aria-label": `hold ${name}`, change: hold}),
      made("span", {"aria-hidden": "true"}, "hold")));
}

/** Arrow keys move a point of share, with shift a tenth of it: a range's own step is one or the other. */
function key(event, by) {
  const step = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1}[event.key];
  if (!step) return;
  event.preventDefault();
  desk.origin = null;
  tell(by(event.shiftKey ? step / 10 : step));
  rest(desk.told);
}

/** Where a score lies on its strip, in per cent. */
function along(f, score) {
  const {least, most} = KNOWN.tasks[f].axis;
  return clip(100 * (score - least) / (most - least), 0, 100);
}

function strip(f) {
  const task = KNOWN.tasks[f], own = KNOWN.among.map((row) => row[f]);
  const [low, high] = [Math.min(...own), Math.max(...own)];
  task.axis = {least: low - 0.05 * (high - low), most: high + 0.05 * (high - low)};
  const height = (n) => 18 + 9 * Math.sin(2.4 * n); // spread by order
  const dots = own.map((score, n) => `<circle cx="${along(f, score)}%" cy="${height(n)}" r="3.5"/>`).join("");
  const picture = made("div", {class: "desk-axis"});
  const line = `<line id="desk-interval-${f}" y1="38" y2="38"/>`;
  picture.innerHTML = `<svg aria-hidden="true" height="44">${dots}${line}</svg>`;
  const {least, most} = task.axis, step = (most - least) / 100;
  picture.append(made("input", {
    type: "range", id: `desk-score-${f}`, min: least, max: most, step: "any",
    "aria-label": `${KNOWN.exact ? "score" : "predicted score"}, ${task.name}; moves the mixture`,
    input: ({target}) => tell(drag(f, Number(target.value))), change: () => rest(desk.told),
    keydown: (event) => key(event, (by) => drag(f, SURFACES[f].mean(desk.shares) + by * step)),
  }));
  const ends = [made("span", {}, `${task.higher ? "" : "better · "}${least.toFixed(2)}`),
    made("span", {}, `${most.toFixed(2)}${task.higher ? " · better" : ""}`)];
  return made("div", {class: "desk-strip", style: `--hue: ${task.hue}`},
    made("p", {}, made("b", {}, task.name), " ", made("output", {id: `desk-told-${f}`, "aria-live": "off"})),
    picture, made("p", {class: "ends"}, ...ends));
}

function show() {
  desk.shares.forEach((share, i) => {
    const range = find(`share-${i}`);
    range.value = 100 * share;
    range.style.setProperty("--fill", percent(share).replace(" ", ""));
    range.setAttribute("aria-valuetext", percent(share));
    find(`value-${i}`).textContent = percent(share);
  });
  SURFACES.forEach((surface, f) => {
    const [mean, spread] = surface.predict(desk.shares), {unit, sure} = KNOWN.tasks[f], wide = sure * spread;
    const line = find(`interval-${f}`), range = find(`score-${f}`);
    const text = `${mean.toFixed(3)}${wide > 0 ? ` ± ${wide.toFixed(3)}` : ""} ${unit}`;
    range.value = mean;
    range.setAttribute("aria-valuetext", text);
    line.setAttribute("x1", `${along(f, mean - wide)}%`);
    line.setAttribute("x2", `${along(f, mean + wide)}%`);
    find(`told-${f}`).textContent = text;
  });
  for (const button of find("presets").children) button.setAttribute("aria-pressed", button.value === desk.preset);
  find("place").textContent = standing().join(" of ");
  find("yaml").textContent = yaml();
  fill();
}

/** The recipe, and how often each candidate is repeated in a run of so many tokens. */
function fill() {
  const counted = desk.budget > 0, known = counted && Object.values(KNOWN.tokens).some((there) => there !== null);
  recipe().forEach((share, i) => {
    const row = find("recipe").rows[i].cells, tokens = share * desk.budget, there = KNOWN.tokens[KNOWN.candidates[i]];
    const epochs = known && there !== null ? tokens / there : null;
    const often = epochs === null ? "–" : epochs < 0.01 && epochs > 0 ? "< 0.01" : epochs.toFixed(2);
    const told = [percent(share), counted ? grouped(tokens) : "–", often];
    told.forEach((text, n) => { if (row[n + 1].textContent !== text) row[n + 1].textContent = text; });
    row[3].className = epochs > KNOWN.stale ? "stale" : "";
  });
}

function build() {
  const order = KNOWN.candidates.map((_, i) => i), shown = new Set(KNOWN.listed);
  const others = order.filter((i) => !shown.has(i)).map(slider);
  find("sliders").append(...order.filter((i) => shown.has(i)).map(slider));
  const summary = made("summary", {}, `${others.length} more`);
  if (others.length) find("sliders").append(made("details", {}, summary, ...others));
  find("presets").append(...Object.keys(KNOWN.presets).map((name) => {
    return made("button", {type: "button", value: name, "aria-pressed": "false", click: () => rest(start(name))}, name);
  }));
  find("strips").append(...KNOWN.tasks.map((_, f) => strip(f)));
  const cells = () => [1, 2, 3].map(() => made("td"));
  find("recipe").append(...KNOWN.candidates.map((name) => {
    return made("tr", {}, made("th", {scope: "row"}, name), ...cells());
  }));
  find("copy").addEventListener("click", () => copy(yaml(), "The mixture"));
  find("link").addEventListener("click", () => copy(`${location.href.split("#")[0]}#${fragment()}`, "A link to it"));
  spend();
}

/** Let the budget be typed, and multiplied. */
function spend() {
  const budget = find("budget"), set = (tokens) => {
    desk.budget = tokens;
    fill();
  };
  budget.value = desk.budget ?? "";
  budget.addEventListener("input", () => set(Number(budget.value)));
  for (const button of document.querySelectorAll("#desk [data-times]")) {
    button.addEventListener("click", () => {
      budget.value = Number((desk.budget * button.dataset.times).toPrecision(6));
      set(Number(budget.value));
    });
  }
}

/** Put what the address carries on the desk, where it carries a mixture. */
function arrive() {
  if (!location.hash.includes("=")) return;
  const shares = carried(location.hash.slice(1));
  if (!shares) return tell("The link is of another run: its candidates are not these.");
  put(settled(shares, KNOWN.bounds));
  rest("This is the mixture of the link.");
}

function begin() {
  build();
  tell(start(Object.keys(KNOWN.presets)[0]) || "This is the answer of this run.");
  addEventListener("hashchange", arrive);
  arrive();
}

if (KNOWN.exact) blends(KNOWN).then((found) => { SURFACES = found; begin(); });
else begin();
