// The page: an image is drawn, dropped or picked; the server says what the network makes of it, and shows every layer.
import { decoded, paint, told, valueUnder } from "./maps.js";
import { follow, offer, slide } from "./window.js";

const get = (id) => document.getElementById(id);
const canvas = get("canvas"), status = get("status");
const spec = await (await fetch("/spec")).json();
const [channels, height, width] = spec.image;
const drawable = [1, 3].includes(channels) && Math.min(height, width) > 1;
const size = spec.layers.reduce((sum, layer) => sum + layer.shape.reduce((product, n) => product * n, 1), 0);
const [ground, ink] = spec.dark_background ? ["#000", "#fff"] : ["#fff", "#000"];
const figures = new Map(); // of the layers, by name
let waiting = null, busy = false, start = 0;

get("name").textContent = document.title = spec.name;
get("about").textContent =
  `Images of ${spec.image.join("×")}, ${spec.layers.length} layers, ${spec.parameters.toLocaleString("en")} parameters. ` +
  "What you draw or drop stays between this page and the server.";
get("spec").textContent = spec.spec;
get("example").textContent = `curl --data-binary @picture.png ${location.origin}/predict`;
get("drawing").hidden = !drawable;

/** Ask about an image; while an answer is on its way only the latest image waits. */
async function ask(body) {
  waiting = body;
  if (busy) return;
  busy = true;
  try {
    while (waiting !== null) {
      const sent = waiting;
      waiting = null;
      const answer = await post("/predict?top=10", sent);
      if (answer) tell(answer);
      const layers = answer && size <= spec.most_values ? await post("/activations", sent) : null;
      if (layers) await show(layers);
    }
  } finally {
    busy = false;
  }
}

async function post(path, body) {
  try {
    const answer = await fetch(path, { method: "POST", body });
    const said = await answer.json();
    status.classList.toggle("error", !answer.ok);
    if (answer.ok) return said;
    status.textContent = said.help ? `${said.error} (${said.help})` : said.error;
  } catch (error) {
    status.classList.add("error");
    status.textContent = `The server does not answer: ${error.message}`;
  }
  return null;
}

function tell({ answers: [answer], notes }) {
  const several = !["classes", "labels", "values", "areas", "shape"].some((key) => key in answer);
  const parts = several ? Object.entries(answer) : [["", answer]];
  status.textContent = parts.map(([name, own]) => (name ? `${name}: ` : "") + sentence(own)).join("; ");
  get("notes").textContent = notes.map((note) => `${note}.`).join(" ");
  get("answer").replaceChildren(...parts.flatMap(([, own]) => bars(own)));
}

function sentence({ classes, labels, values, areas, shape, mean }) {
  if (classes) return `${classes[0].class}, ${percent(classes[0].score)}`;
  if (labels) return labels.map(({ label, score }) => `${label} ${percent(score)}`).join(", ") || "no label";
  if (values) return Object.entries(values).map(([name, value]) => `${name} ${told(value)}`).join(", ");
  if (areas) return Object.entries(areas).map(([name, part]) => `${name} ${percent(part)}`).join(", ");
  return `an output of ${shape.join("×")}, mean ${told(mean)}`;
}

const percent = (score) => (score === null ? "not a number" : `${(100 * score).toFixed(1)}%`);

function bars({ classes, labels, areas }) {
  const rows = (classes || []).map((found) => [found.class, found.score]);
  rows.push(...(labels || []).map((found) => [found.label, found.score]), ...Object.entries(areas || {}));
  return rows.map(([name, score]) => {
    const [line, label, track, bar, figure] = ["div", "span", "div", "i", "span"].map((tag) => document.createElement(tag));
    line.className = "class";
    track.className = "track";
    label.textContent = name;
    figure.textContent = percent(score);
    bar.style.width = `${Math.min(Math.max(100 * score, 0), 100)}%`;
    track.append(bar);
    line.append(label, track, figure);
    return line;
  });
}

async function show({ input, layers }) {
  const values = new Map([["input", decoded(input)], ...layers.map((layer) => [layer.name, decoded(layer)])]);
  for (const [name, array] of values) {
    const figure = figures.get(name);
    figure.array = array;
    paint(figure.querySelector("canvas"), array);
  }
  get("layers").hidden = false;
  await follow(values);
}

function figureOf(name, words, slides) {
  const figure = document.createElement("figure"), picture = document.createElement("canvas"), caption = document.createElement("figcaption");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `values of ${name}, ${words}`);
  caption.append(Object.assign(document.createElement("b"), { textContent: name }), ` ${words}`);
  figure.append(picture, caption);
  picture.addEventListener("pointermove", (event) => {
    get("reading").textContent = figure.array ? `${name}, ${valueUnder(picture, event, figure.array)}` : "";
  });
  if (slides) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Slide its window" });
    button.addEventListener("click", async () => {
      await slide(name);
      get("window").scrollIntoView();
      get("layer").focus();
    });
    figure.append(button);
  }
  figures.set(name, figure);
  return figure;
}

const wordsOf = ({ type, shape }) => {
  const what = shape.length === 3 ? `${shape[0]} maps of ${shape[1]}×${shape[2]}` : `${shape.join("×")} numbers`;
  return `${type}, ${shape.length === 3 && shape[0] > 24 ? "the first 24 of " : ""}${what}`;
};
get("layers").hidden = true;
get("layers").append(figureOf("input", `as the first layer reads it, ${spec.input.join("×")}`, false));
get("layers").append(...spec.layers.map((layer) => figureOf(layer.name, wordsOf(layer), layer.window)));
if (size > spec.most_values) get("reading").textContent = "The layers of this network are too large to be shown all at once.";
offer(spec.layers);

// Drawing.
const scale = Math.max(1, Math.round(280 / Math.max(height || 1, width || 1)));
canvas.width = (width || 1) * scale;
canvas.height = (height || 1) * scale;
const pen = canvas.getContext("2d", { willReadFrequently: true });
const clear = () => {
  pen.fillStyle = ground;
  pen.fillRect(0, 0, canvas.width, canvas.height);
};
let last = null;
const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
};
const stroke = (event) => {
  const at = place(event);
  Object.assign(pen, { strokeStyle: ink, lineCap: "round", lineJoin: "round", lineWidth: (Number(get("pen").value) * canvas.width) / 36 });
  pen.beginPath();
  pen.moveTo(...(last || at));
  pen.lineTo(...at);
  pen.stroke();
  last = at;
  ask(drawn());
};
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  stroke(event);
});
canvas.addEventListener("pointermove", (event) => last && stroke(event));
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (last = null));
get("clear").addEventListener("click", () => {
  clear();
  ask(drawn());
});
clear();

/** The drawing as a .npy file (1, channels, h, w) of bytes. */
function drawn() {
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height), pixels = data.length / 4;
  const shape = `{'descr': '|u1', 'fortran_order': False, 'shape': (1, ${channels}, ${canvas.height}, ${canvas.width}), }`;
  const head = shape.padEnd(Math.ceil((shape.length + 11) / 64) * 64 - 11) + "\n";
  const file = new Uint8Array(10 + head.length + channels * pixels);
  file.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, head.length & 255, head.length >> 8]);
  file.set(new TextEncoder().encode(head), 10);
  for (let channel = 0, at = 10 + head.length; channel < channels; channel++) {
    for (let pixel = 0; pixel < pixels; pixel++) file[at++] = data[4 * pixel + channel];
  }
  return file;
}

// Files.
get("file").addEventListener("change", () => get("file").files[0] && ask(get("file").files[0]));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files[0]) ask(event.dataTransfer.files[0]);
});

// Test images.
async function list() {
  const { count, images } = await (await fetch(`/test-images?start=${start}`)).json();
  get("tests").hidden = !count;
  get("thumbnails").replaceChildren(
    ...images.map(({ number, picture, label }) => {
      const item = document.createElement("li"), button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", `test image ${number}${label && `, ${label}`}`);
      if (picture) button.append(Object.assign(new Image(), { src: picture, alt: "" }));
      button.append(label || String(number));
      button.addEventListener("click", () => ask(JSON.stringify({ test_image: number })));
      item.append(button);
      return item;
    }),
  );
  get("range").textContent = images.length ? `${start} to ${start + images.length - 1} of ${count}` : "";
  get("before").disabled = start === 0;
  get("after").disabled = start + images.length >= count;
}
const STEP = 24;
get("before").addEventListener("click", () => list((start = Math.max(0, start - STEP))));
get("after").addEventListener("click", () => list((start += STEP)));
if (spec.test_images) await list();
