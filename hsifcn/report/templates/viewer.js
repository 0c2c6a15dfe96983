"use strict";
// The viewer of a run's page: layers of one scene, drawn on a canvas. No network, no library.
const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;

async function unpack(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Kind(await new Response(stream).arrayBuffer());
}

class Viewer {
  constructor(root, data) {
    this.root = root;
    this.data = data;
    this.find = (name) => root.querySelector("." + name);
    this.canvas = this.find("map");
    this.hidden = new Set();
    this.chosen = null; // a cell of the confusion matrix: [true, mapped], from 1
    this.at = [0, 0]; // pixel that is told of
    this.layers = {};
  }

  async start() {
    const d = this.data;
    [this.image, this.truth, this.map, this.split, this.sure] = await Promise.all([
      unpack(d.image, Uint8Array), unpack(d.truth, Uint16Array), unpack(d.map, Uint16Array),
      unpack(d.split, Uint16Array), unpack(d.confidence, Uint8Array)]);
    this.odds = d.probabilities && await unpack(d.probabilities, Uint8Array);
    this.spectra = d.spectra && await unpack(d.spectra.values, Uint8Array);
    const names = ["Map", "Scene", "Ground truth", "Errors", "Confidence", "Split"];
    for (const [side, first] of [["left", "Map"], ["right", "Scene"]]) {
      for (const name of names) this.find(side).add(new Option(name));
      this.find(side).value = first;
      this.find(side).onchange = () => this.draw();
    }
    this.find("cut").oninput = () => this.draw();
    this.find("in").onclick = () => this.zoom(1.5);
    this.find("out").onclick = () => this.zoom(1 / 1.5);
    this.find("all").onclick = () => { this.fit(); this.draw(); };
    this.legend();
    this.say();
    this.listen();
    this.root.classList.add("ready");
    this.at = [d.rows >> 1, d.cols >> 1];
    this.resize();
    // Within the observer itself a change of size would call it again.
    new ResizeObserver(() => requestAnimationFrame(() => this.resize())).observe(this.find("panes"));
  }

  name(label) { // with its code; one written from right to left turns nothing else round
    const code = this.data.codes[label - 1], name = this.data.names[label - 1];
    return /[\u0590-\u08ff\ufb1d-\ufefc]/.test(name) ? `${code} \u2068${name}\u2069` : `${code} ${name}`;
  }

  say() {
    const d = this.data, parts = [];
    if (d.step > 1) parts.push(`An overview: one row and column in ${d.step} of ${d.scene_rows} x ${d.scene_cols} pixels.`);
    if (d.spectra && d.spectra.step > 1) parts.push(`Spectra of one pixel in ${d.spectra.step}, the nearest above and to the left.`);
    if (!d.probabilities && d.names.length > 1) parts.push("This scene is too large for the probability of every class; that of the class mapped is told.");
    this.find("notice").textContent = parts.join(" ");
  }

  legend() {
    const d = this.data, box = this.find("classes"), all = document.createElement("button");
    all.type = "button";
    all.textContent = "All classes";
    all.onclick = () => { this.hidden.clear(); this.chosen = null; box.querySelectorAll("input").forEach((i) => { i.checked = true; }); this.refresh(); };
    d.names.forEach((_, i) => {
      const label = document.createElement("label"), tick = document.createElement("input");
      const swatch = document.createElement("i"), area = document.createElement("span");
      tick.type = "checkbox";
      tick.checked = true;
      tick.onchange = () => { tick.checked ? this.hidden.delete(i + 1) : this.hidden.add(i + 1); this.refresh(); };
      swatch.style.background = `rgb(${d.colours[i].join(",")})`;
      area.textContent = this.area(d.counts[i + 1]);
      const odds = document.createElement("b");
      const text = document.createElement("em");
      text.textContent = this.name(i + 1);
      label.append(tick, swatch, text, odds, area);
      box.append(label);
    });
    box.prepend(all);
  }

  area(pixels) {
    const one = this.data.hectares_per_pixel;
    const count = pixels.toLocaleString("en") + " px";
    return one === null ? count : `${(pixels * one).toLocaleString("en", {maximumFractionDigits: 1})} ha`;
  }

  refresh() { this.layers = {}; this.draw(); }

  colour(name, i) { // [red, green, blue], or null for a dark pixel
    const d = this.data, truth = this.truth[i], label = this.map[i];
    if (name === "Scene") return this.image.subarray(3 * i, 3 * i + 3);
    if (this.chosen && !(truth === this.chosen[0] && label === this.chosen[1] && this.split[i] === 3)) return null;
    if (name === "Split") return this.split[i] ? d.split_colours[this.split[i] - 1] : null;
    const shown = name === "Ground truth" ? truth : label;
    if (!shown || this.hidden.has(shown)) return null;
    if (name === "Confidence") { const v = this.sure[i] / 100; return [68 + 185 * v, 1 + 230 * v * v, 84 + 60 * v * (1 - v) - 47 * v]; }
    if (name === "Errors") return truth ? (truth === label ? [200, 200, 200] : [213, 60, 20]) : null;
    return d.colours[shown - 1];
  }

  layer(name) {
    if (!this.layers[name]) {
      const {rows, cols} = this.data, canvas = document.createElement("canvas");
      canvas.width = cols;
      canvas.height = rows;
      const context = canvas.getContext("2d"), pixels = context.createImageData(cols, rows);
      for (let i = 0; i < rows * cols; i++) {
        const c = this.colour(name, i) || [38, 38, 38];
        pixels.data.set([c[0], c[1], c[2], 255], 4 * i);
      }
      context.putImageData(pixels, 0, 0);
      this.layers[name] = canvas;
    }
    return this.layers[name];
  }

  shape() { // the map gets the shape of the scene, the side what it leaves
    const {rows, cols} = this.data, room = this.find("main"), width = this.find("panes").clientWidth;
    const most = innerWidth > 800 ? width - 324 : width, high = Math.min(0.78 * innerHeight, 780);
    const scale = Math.min(most / cols, high / rows);
    room.style.width = `${Math.max(cols * scale, Math.min(most, 440))}px`;
    this.find("stage").style.height = `${Math.max(rows * scale, 160)}px`;
  }

  resize() {
    this.shape();
    const box = this.canvas.parentElement.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    this.fit();
    this.show(...this.at);
  }

  whole() { return Math.min(this.canvas.width / this.data.cols, this.canvas.height / this.data.rows); } // scale of the whole scene

  fit() {
    const {rows, cols} = this.data;
    this.scale = this.whole();
    this.x = (this.canvas.width - cols * this.scale) / 2;
    this.y = (this.canvas.height - rows * this.scale) / 2;
  }

  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const least = this.whole(), scale = Math.max(least, Math.min(64, this.scale * factor));
    this.x = x - (x - this.x) * scale / this.scale;
    this.y = y - (y - this.y) * scale / this.scale;
    this.scale = scale;
    if (scale === least) this.fit();
    this.draw();
  }

  draw() {
    const {rows, cols} = this.data, {width, height} = this.canvas;
    const context = this.canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.clearRect(0, 0, width, height);
    const cut = width * this.find("cut").value / 100;
    for (const [side, from, to] of [["right", cut, width], ["left", 0, cut]]) {
      if (to <= from) continue;
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, height);
      context.clip();
      context.drawImage(this.layer(this.find(side).value), this.x, this.y, cols * this.scale, rows * this.scale);
      context.restore();
    }
    if (cut > 0 && cut < width) { context.fillStyle = "#fff"; context.fillRect(cut - 1, 0, 2, height); }
    const [row, col] = this.at;
    for (const [shade, thickness] of [["#000", 4], ["#fff", 2]]) { // seen on any colour
      context.strokeStyle = shade;
      context.lineWidth = thickness;
      context.strokeRect(this.x + col * this.scale - 1, this.y + row * this.scale - 1, this.scale + 2, this.scale + 2);
    }
  }

  listen() {
    const pointers = new Map(), c = this.canvas;
    let moved = 0, apart = 0;
    const place = (event) => {
      const box = c.getBoundingClientRect();
      return [(event.clientX - box.left) * c.width / box.width, (event.clientY - box.top) * c.height / box.height];
    };
    c.onwheel = (event) => {
      if (event.deltaY > 0 && this.scale <= this.whole()) return; // nothing to zoom out of: the page scrolls
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...place(event));
    };
    c.onpointerdown = (event) => { pointers.set(event.pointerId, place(event)); moved = apart = 0; c.setPointerCapture(event.pointerId); };
    c.onpointermove = (event) => {
      const now = place(event), before = pointers.get(event.pointerId);
      if (!before) { this.point(...now); return; }
      pointers.set(event.pointerId, now);
      if (pointers.size === 2) {
        const [[ax, ay], [bx, by]] = [...pointers.values()], distance = Math.hypot(ax - bx, ay - by);
        if (apart) this.zoom(distance / apart, (ax + bx) / 2, (ay + by) / 2);
        apart = distance;
      } else {
        this.x += now[0] - before[0];
        this.y += now[1] - before[1];
        moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
        this.draw();
      }
    };
    c.onpointerup = c.onpointercancel = (event) => { pointers.delete(event.pointerId); if (moved < 6) this.point(...place(event)); };
    c.onkeydown = (event) => {
      const steps = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
      if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? 1.5 : 1 / 1.5);
      else if (steps) {
        const [row, col] = this.at;
        this.show(row + steps[0], col + steps[1]);
      } else return;
      event.preventDefault();
    };
  }

  point(x, y) { this.show(Math.floor((y - this.y) / this.scale), Math.floor((x - this.x) / this.scale)); }

  show(row, col) {
    const d = this.data;
    if (row < 0 || col < 0 || row >= d.rows || col >= d.cols) return;
    this.at = [row, col];
    const i = row * d.cols + col, r = row * d.step, k = col * d.step, lines = [`row ${r}, column ${k}`];
    if (d.transform) {
      const [a, b, x, e, f, y] = d.transform;
      lines.push(`x ${(a * (k + .5) + b * (r + .5) + x).toFixed(a < .1 ? 5 : 1)}, y ${(e * (k + .5) + f * (r + .5) + y).toFixed(a < .1 ? 5 : 1)}`);
    }
    const name = (label, none) => label ? this.name(label) : none;
    lines.push(`map: ${name(this.map[i], "unclassified")}${this.map[i] ? `, ${this.sure[i]} %` : ""}`);
    lines.push(`truth: ${name(this.truth[i], "unlabelled")}`);
    if (this.split[i]) lines.push(`split: ${["training", "validation", "test"][this.split[i] - 1]} pixel`);
    this.find("where").textContent = lines.join("\n");
    this.probabilities(i);
    this.spectrum(r, k, this.map[i], this.truth[i]);
    this.draw();
  }

  probabilities(i) { // of every class at a pixel, beside its name, with a bar behind it
    const d = this.data, n = d.names.length;
    if (!this.odds) return;
    this.find("classes").querySelectorAll("label").forEach((label, k) => {
      const percent = Math.round(this.odds[i * n + k] / 2.55), shown = percent && this.map[i];
      label.querySelector("b").textContent = shown ? `${percent} %` : "";
      label.style.background = shown ? `linear-gradient(to right, rgb(128 128 128 / 28%) ${percent}%, transparent ${percent}%)` : "";
    });
  }

  spectrum(row, col, label, truth) {
    const s = this.data.spectra, canvas = this.find("spectrum");
    if (!s) { canvas.hidden = true; return; }
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const context = canvas.getContext("2d"), n = s.places.length;
    context.scale(ratio, ratio);
    const start = (Math.floor(row / s.step) * s.cols + Math.floor(col / s.step)) * n;
    const own = Array.from(this.spectra.subarray(start, start + n), (v) => s.low + v / 255 * (s.high - s.low));
    const ink = dark() ? "#e8e8e4" : "#1d2126", soft = dark() ? "#74797f" : "#9aa0a6", lines = label ? [[own, ink, [], "this pixel"]] : [];
    for (const [k, dash, what] of [[label, [], "map"], [truth, [5, 3], "truth"]]) {
      if (k && s.means[k - 1] && !(what === "truth" && k === label)) lines.push([s.means[k - 1], `rgb(${this.data.colours[k - 1].join(",")})`, dash, `mean of ${this.name(k)}`]);
    }
    if (!lines.length) {
      context.font = "12px sans-serif";
      context.fillStyle = ink;
      context.fillText("no measurement", 8, 18);
      return;
    }
    const values = lines.flatMap((line) => line[0]), low = Math.min(...values), high = Math.max(...values, low + 1e-9);
    const first = s.places[0], last = s.places[n - 1], top = 12 + 15 * lines.length, bottom = height - 18;
    const left = 48, px = (v) => left + (width - left - 6) * (v - first) / (last - first || 1), py = (v) => bottom - (bottom - top) * (v - low) / (high - low);
    context.font = "12px sans-serif";
    context.lineJoin = "round";
    lines.forEach(([spectrum, colour, dash, what], k) => {
      const path = new Path2D();
      spectrum.forEach((v, j) => { j ? path.lineTo(px(s.places[j]), py(v)) : path.moveTo(px(s.places[j]), py(v)); });
      path.moveTo(6, 8 + 15 * k);
      path.lineTo(26, 8 + 15 * k);
      // A rim keeps the pale colours of some classes visible.
      for (const [shade, thickness] of k ? [[soft, 4], [colour, 2.5]] : [[colour, 1.5]]) {
        context.strokeStyle = shade;
        context.lineWidth = thickness;
        context.setLineDash(dash);
        context.stroke(path);
      }
      context.fillStyle = ink;
      context.fillText(what, 32, 12 + 15 * k, width - 38);
    });
    context.fillStyle = ink;
    const place = (v) => s.unit === "nm" ? `${Math.round(v)} nm` : `${s.unit} ${v}`;
    const amount = (v) => Number(v.toPrecision(3)).toLocaleString("en", {maximumSignificantDigits: 3});
    context.fillText(place(first), left, height - 4);
    context.textAlign = "right";
    context.fillText(place(last), width - 6, height - 4);
    context.fillText(amount(high), left - 5, top + 4);
    context.fillText(amount(low), left - 5, bottom + 4);
  }

  choose(truth, label) {
    this.chosen = truth ? [truth, label] : null;
    this.find("left").value = "Map";
    this.find("cut").value = 100;
    this.refresh();
  }
}

// The confusion matrix: a click on a cell shows its pixels; a button puts the worst classes first.
function confusion(table, viewers) {
  const body = table.querySelector("tbody"), head = table.querySelector("thead tr");
  const rows = [...body.rows], heads = [...head.cells];
  const order = (sequence) => {
    for (const r of sequence) body.append(rows[r]);
    for (const row of rows) { const cells = [...row.cells].sort((a, b) => (a.dataset.mapped || 0) - (b.dataset.mapped || 0)); row.append(...sequence.map((r) => cells.find((cell) => +cell.dataset.mapped === r + 1)), ...cells.filter((cell) => cell.className === "total")); }
    if (heads.length > rows.length) head.append(...sequence.map((r) => heads[r + 1]), ...heads.slice(rows.length + 1));
  };
  const plain = rows.map((_, i) => i), right = (i) => +rows[i].dataset.recall;
  const button = document.createElement("button");
  let sorted = false;
  button.type = "button";
  button.textContent = "Worst classes first";
  button.onclick = () => { sorted = !sorted; order(sorted ? [...plain].sort((a, b) => right(a) - right(b)) : plain); button.textContent = sorted ? "Classes by number" : "Worst classes first"; };
  table.parentElement.before(button);
  let last = null;
  const pick = (cell) => {
    if (last) last.classList.remove("picked");
    last = cell === last ? null : cell;
    if (last) last.classList.add("picked");
    for (const viewer of viewers) viewer.choose(last && +cell.dataset.true, last && +cell.dataset.mapped);
    if (last && viewers[0]) viewers[0].root.scrollIntoView({behavior: "smooth", block: "start"});
  };
  for (const cell of table.querySelectorAll("td[data-mapped][title]")) {
    cell.tabIndex = 0;
    cell.setAttribute("role", "button");
    cell.onclick = () => pick(cell);
    cell.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(cell); } };
  }
}

const viewers = [...document.querySelectorAll("[data-viewer]")].map((root) => {
  const data = JSON.parse(document.getElementById("viewer-" + root.dataset.viewer).textContent);
  return new Viewer(root, data);
});
for (const viewer of viewers) viewer.start();
for (const table of document.querySelectorAll("table.confusion")) confusion(table, viewers);
