// One convolution, number by number: what lies under its window, its weights, and the sum that they give.
import { decoded, paint, told } from "./maps.js";

const get = (id) => document.getElementById(id);
const [choice, filter, row, column, channel] = ["layer", "filter", "row", "column", "channel"].map(get);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const known = new Map(); // the weights of layers, by name
let layers = [], values = new Map(), timer = 0;

/** Offer the network's convolutions. */
export function offer(described) {
  layers = described.filter((layer) => layer.window);
  choice.replaceChildren(...layers.map(({ name }) => new Option(name, name)));
}

/** Show a convolution; `name` chooses it, else it is the one that was chosen before. */
export async function slide(name) {
  if (name) {
    choice.value = name;
    for (const input of [filter, row, column, channel]) input.value = 0;
  }
  const layer = layers.find((found) => found.name === choice.value);
  if (!layer || !values.has(layer.name) || !values.has(layer.inputs[0])) return;
  if (!known.has(layer.name)) {
    const answer = await fetch(`/weights?layer=${encodeURIComponent(layer.name)}`);
    if (!answer.ok) return;
    const { weights } = await answer.json();
    known.set(layer.name, { weight: decoded(weights.weight), bias: weights.bias && decoded(weights.bias) });
    if (choice.value !== layer.name) return; // another one was chosen meanwhile
  }
  get("window").hidden = false;
  draw(layer);
}

/** Take the values of all layers, by name, and show them under the window. */
export function follow(found) {
  values = found;
  return slide();
}

const within = (input, count) => {
  input.max = count - 1;
  const number = Math.min(Math.max(Math.trunc(Number(input.value)) || 0, 0), count - 1);
  if (String(number) !== input.value && document.activeElement !== input) input.value = number;
  return number;
};

function draw(layer) {
  const { kernel: [kh, kw], stride, dilation, padding, groups } = layer.window;
  const source = values.get(layer.inputs[0]), target = values.get(layer.name);
  const { weight, bias } = known.get(layer.name);
  const [filters, oh, ow] = target.shape, [, h, w] = source.shape, depth = weight.shape[1];
  const f = within(filter, filters), i = within(row, oh), j = within(column, ow), c = within(channel, depth);
  const first = Math.floor(f / (filters / groups)) * depth; // the first input channel that this filter sees
  const top = i * stride[0] - padding[0], left = j * stride[1] - padding[1];
  const under = (k, u, v) => {
    const y = top + u * dilation[0], x = left + v * dilation[1];
    return y < 0 || x < 0 || y >= h || x >= w ? 0 : source.values[((first + k) * h + y) * w + x];
  };
  const factor = (k, u, v) => weight.values[((f * depth + k) * kh + u) * kw + v];
  let all = 0, own = 0;
  for (let k = 0; k < depth; k++) {
    let sum = 0;
    for (let u = 0; u < kh; u++) for (let v = 0; v < kw; v++) sum += under(k, u, v) * factor(k, u, v);
    all += sum;
    if (k === c) own = sum;
  }
  const added = !bias ? 0 : bias.shape.length === 1 ? bias.values[f] : bias.values[(f * oh + i) * ow + j];
  const said = target.values[(f * oh + i) * ow + j];
  const map = (array, number, height, width) => ({
    shape: [1, height, width],
    values: array.values.subarray(number * height * width, (number + 1) * height * width),
  });
  framed(get("source"), map(source, first + c, h, w), left, top, (kw - 1) * dilation[1] + 1, (kh - 1) * dilation[0] + 1);
  framed(get("target"), map(target, f, oh, ow), j, i, 1, 1);
  get("source-words").textContent = `${layer.inputs[0]}, channel ${first + c}`;
  get("target-words").textContent = `${layer.name}, filter ${f}`;
  const channels = depth > 1 ? `; over all ${depth} channels ${told(all)}` : "";
  get("sum").innerHTML = "";
  get("sum").append(
    `Sum of value × weight over channel ${first + c}: ${told(own)}${channels}; bias ${told(added)}; together ${told(all + added)}. The network has `,
    Object.assign(document.createElement("b"), { id: "said", textContent: told(said) }),
    ".",
  );
  const cells = Array.from({ length: kh }, (_, u) => {
    const line = document.createElement("tr");
    for (let v = 0; v < kw; v++) {
      const cell = line.insertCell();
      cell.append(told(under(c, u, v)));
      cell.append(Object.assign(document.createElement("span"), { textContent: `× ${told(factor(c, u, v))}` }));
    }
    return line;
  });
  get("numbers").replaceChildren(...cells);
}

/** A map in large pixels, with a frame around some of them; what of the frame lies in the padding is not seen. */
function framed(canvas, array, x, y, across, down) {
  const small = document.createElement("canvas");
  paint(small, array);
  const size = Math.max(2, Math.floor(240 / Math.max(small.width, small.height)));
  canvas.width = small.width * size;
  canvas.height = small.height * size;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  context.lineWidth = 3;
  context.strokeStyle = "#ff8c1a";
  context.strokeRect(x * size + 1.5, y * size + 1.5, across * size - 3, down * size - 3);
}

function step() {
  const layer = layers.find((found) => found.name === choice.value);
  const [, oh, ow] = layer.shape, next = (Number(row.value) * ow + Number(column.value) + 1) % (oh * ow);
  row.value = Math.floor(next / ow);
  column.value = next % ow;
  slide();
}

function pause() {
  clearInterval(timer);
  timer = 0;
  get("play").textContent = "Play";
}

for (const input of [filter, row, column, channel]) input.addEventListener("input", () => slide());
choice.addEventListener("change", () => slide(choice.value));
get("play").addEventListener("click", () => {
  if (timer) return pause();
  if (still.matches) return step();
  get("play").textContent = "Pause";
  timer = setInterval(step, 250);
});
get("target").addEventListener("click", (event) => {
  const layer = layers.find((found) => found.name === choice.value), box = event.target.getBoundingClientRect();
  pause();
  row.value = Math.floor(((event.clientY - box.top) / box.height) * layer.shape[1]);
  column.value = Math.floor(((event.clientX - box.left) / box.width) * layer.shape[2]);
  slide();
});
