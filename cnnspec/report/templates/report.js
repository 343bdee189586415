"use strict";
// Shows a chart's numbers at the epoch under the pointer, or at that which the arrow keys choose.
for (const figure of document.querySelectorAll(".chart")) {
  const svg = figure.querySelector("svg"), cursor = svg.querySelector(".cursor");
  const reading = figure.querySelector(".reading"), asBefore = reading.textContent;
  const numbers = JSON.parse(figure.dataset.numbers), [left, right, width] = numbers.box;
  const epochs = [...new Set(numbers.lines.flatMap((line) => line.points.map((point) => point[0])))].sort((a, b) => a - b);
  let chosen = epochs.length - 1;
  const show = (place) => {
    chosen = Math.max(0, Math.min(epochs.length - 1, place));
    const epoch = epochs[chosen], [low, high] = numbers.x;
    const x = left + ((epoch - low) / (high - low)) * (right - left);
    cursor.setAttribute("transform", `translate(${x.toFixed(1)})`);
    cursor.setAttribute("visibility", "visible");
    const told = [];
    for (const line of numbers.lines) {
      const point = line.points.find((found) => found[0] === epoch);
      if (point) told.push(`${line.name} ${point[1]}`);
    }
    reading.textContent = `epoch ${epoch}: ${told.join(", ")}`;
  };
  const hide = () => {
    cursor.setAttribute("visibility", "hidden");
    reading.textContent = asBefore;
    chosen = epochs.length - 1;
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * width;
    const epoch = numbers.x[0] + ((x - left) / (right - left)) * (numbers.x[1] - numbers.x[0]);
    let nearest = 0;
    epochs.forEach((found, place) => {
      if (Math.abs(found - epoch) < Math.abs(epochs[nearest] - epoch)) nearest = place;
    });
    show(nearest);
  });
  svg.addEventListener("pointerleave", hide);
  figure.addEventListener("blur", hide);
  figure.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: epochs.length - 1 };
    if (event.key in moves) {
      show(moves[event.key]);
      event.preventDefault();
    }
  });
}
// Paper shows what is folded away on the screen.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
