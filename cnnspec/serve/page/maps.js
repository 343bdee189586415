// Arrays as the server sends them, and pictures of them.

/** The array {shape, values} of an answer's {shape, float32}. */
export function decoded({ shape, float32 }) {
  const bytes = Uint8Array.from(atob(float32), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const values = Float32Array.from({ length: bytes.length / 4 }, (_, place) => view.getFloat32(4 * place, true));
  return { shape, values };
}

/** How the maps of an array lie in a picture: of (c, h, w) c maps, of a row of numbers one map, row by row. */
export function arrangement(shape, most = 24) {
  if (shape.length === 3) {
    const [count, height, width] = shape, shown = Math.min(count, most);
    return { shown, height, width, columns: Math.min(shown, 8) };
  }
  const count = shape.reduce((product, size) => product * size, 1);
  const width = Math.min(count, Math.ceil(Math.sqrt(2 * count)));
  return { shown: 1, height: Math.ceil(count / width), width, columns: 1 };
}

/** Paint the maps side by side, from the lowest value, black, to the highest, white, with grey between them. */
export function paint(canvas, { shape, values }, laid = arrangement(shape)) {
  const { shown, height, width, columns } = laid, rows = Math.ceil(shown / columns);
  canvas.width = columns * (width + 1) - 1;
  canvas.height = rows * (height + 1) - 1;
  const context = canvas.getContext("2d"), picture = context.createImageData(canvas.width, canvas.height);
  let low = Infinity, high = -Infinity;
  for (let place = 0; place < Math.min(values.length, shown * height * width); place++) {
    if (Number.isFinite(values[place])) {
      low = Math.min(low, values[place]);
      high = Math.max(high, values[place]);
    }
  }
  const factor = high > low ? 255 / (high - low) : 0;
  for (let place = 0; place < picture.data.length; place += 4) picture.data.set([128, 128, 128, 255], place);
  for (let map = 0; map < shown; map++) {
    const top = Math.floor(map / columns) * (height + 1), left = (map % columns) * (width + 1);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = (map * height + y) * width + x;
        if (at >= values.length) continue;
        const grey = Number.isFinite(values[at]) ? Math.round((values[at] - low) * factor) : 0;
        picture.data.set([grey, grey, grey], 4 * ((top + y) * canvas.width + left + x));
      }
    }
  }
  context.putImageData(picture, 0, 0);
}

/** The value under a pointer over a picture that `paint` made, in words; empty between the maps. */
export function valueUnder(canvas, event, { shape, values }) {
  const { height, width, columns, shown } = arrangement(shape), box = canvas.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * canvas.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * canvas.height);
  const [column, left] = [Math.floor(x / (width + 1)), x % (width + 1)];
  const [row, top] = [Math.floor(y / (height + 1)), y % (height + 1)];
  const map = row * columns + column, at = (map * height + top) * width + left;
  if (left >= width || top >= height || map >= shown || at >= values.length || at < 0) return "";
  const where = shape.length === 3 ? `map ${map}, row ${top}, column ${left}` : `number ${at}`;
  return `${where}: ${told(values[at])}`;
}

/** A number as a person reads it. */
export function told(value) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  return size < 1e-3 || size >= 1e5 ? value.toExponential(2) : value.toPrecision(4);
}
