"use strict";
// Tens of thousands of points on a canvas, to pan, zoom and point at; no library, no WebGL. Points are splatted into an
// ImageData buffer (50,000 antialiased discs take a few milliseconds), names and rings are laid over it on a second
// canvas. A plain script, since the page of a map has it inside and opens from disk; it makes one name, PointMap.
globalThis.PointMap = class {
  static MARGIN = 40;
  static PICK = 10;    // pixels
  static SIDE = 128;   // cells of the grid in which points are looked up

  // stage: the element that both canvases fill; rank(i): how a point is drawn: 0 dimmed, 1 an outlier, 2 plain,
  // 3 brought out; focus(): whether the dimmed ones fade; labels(): [{ x, y, lines, weight, faint }], the most
  // important first; rings(): the points with a ring.
  constructor({ stage, points, ink, x, y, slot, rank, focus, labels, rings }) {
    Object.assign(this, { stage, points, ink, X: x, Y: y, slot, rank, focus, labels, rings });
    this.paint = points.getContext("2d");
    this.pen = ink.getContext("2d");
    this.size = x.length;
    this.view = { scale: 1, x: 0, y: 0, fit: 1 };
    this.width = this.height = 0;
    this.ratio = 1;
    this.masks = new Map();
    this.fingers = new Map();
    this.ranked = null;  // the points of each rank; made again when what is shown changes, not at every frame
    this.box = this.#bounds();
    this.#fillGrid();
  }

  #bounds() {
    const edges = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [65535, 0]);
    const [[left, right], [top, bottom]] = [edges(this.X), edges(this.Y)];
    return { left, top, right: Math.max(right, left + 1), bottom: Math.max(bottom, top + 1) };
  }

  // ---------------------------------------------------------------- looks

  // palette: [r, g, b] of each slot; background: [r, g, b].
  setColors(palette, background) {
    const packed = ([r, g, b]) => r | (g << 8) | (b << 16);
    this.packed = Uint32Array.from(palette, packed);
    this.background = (0xff000000 | packed(background)) >>> 0;
    this.redraw();
  }

  resize() {
    const before = this.width, old = this.view.fit, { box, view } = this;
    this.width = this.stage.clientWidth;
    this.height = this.stage.clientHeight;
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const c of [this.points, this.ink]) {
      c.width = Math.max(1, Math.round(this.width * this.ratio));
      c.height = Math.max(1, Math.round(this.height * this.ratio));
    }
    this.image = this.paint.createImageData(this.points.width, this.points.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    const room = (size, low, high) => (size - 2 * PointMap.MARGIN) / (high - low);
    view.fit = Math.max(1e-6, Math.min(room(this.width, box.left, box.right), room(this.height, box.top, box.bottom)));
    if (!before || view.scale === old) this.whole(); else this.redraw();
  }

  whole() {
    const { box, view } = this;
    view.scale = view.fit;
    view.x = (this.width - (box.left + box.right) * view.scale) / 2;
    view.y = (this.height - (box.top + box.bottom) * view.scale) / 2;
    this.redraw();
  }

  #mask(radius) {  // coverage of an antialiased disc: [dx, dy, alpha 0..256]*
    const key = Math.round(radius * 4);
    if (!this.masks.has(key)) {
      const r = key / 4, reach = Math.ceil(r), cells = [];
      for (let dy = -reach; dy <= reach; dy++) for (let dx = -reach; dx <= reach; dx++) {
        const cover = Math.max(0, Math.min(1, r + 0.5 - Math.hypot(dx, dy)));
        if (cover > 0) cells.push(dx, dy, Math.round(cover * 256));
      }
      this.masks.set(key, Int32Array.from(cells));
    }
    return this.masks.get(key);
  }

  #byRank() {
    const levels = [[], [], [], []];
    for (let i = 0; i < this.size; i++) levels[this.rank(i)].push(i);
    return levels.map((points) => Uint32Array.from(points));
  }

  #drawPoints() {
    this.pixels.fill(this.background);
    this.ranked ??= this.#byRank();
    const zoom = this.view.scale / this.view.fit, base = Math.max(1.1, Math.min(4.5, 130 / Math.sqrt(this.size + 100) + 0.6));
    const radius = Math.min(8, base * Math.pow(zoom, 0.35)) * this.ratio;
    const looks = [[0.85, this.focus() ? 48 : 256], [0.8, 170], [1, 215], [1.25, 256]];
    this.ranked.forEach((points, level) => this.#splat(points, this.#mask(radius * looks[level][0]), looks[level][1]));
    this.paint.putImageData(this.image, 0, 0);
  }

  #splat(points, disc, strength) {
    const { X, Y, slot, packed, pixels, view, ratio } = this, w = this.points.width, h = this.points.height;
    const scale = view.scale * ratio, left = view.x * ratio, top = view.y * ratio, pad = 10 * ratio;
    for (let p = 0; p < points.length; p++) {
      const i = points[p], px = Math.round(X[i] * scale + left), py = Math.round(Y[i] * scale + top);
      if (px < -pad || py < -pad || px > w + pad || py > h + pad) continue;
      const color = packed[slot[i]], r = color & 255, g = (color >> 8) & 255, b = color >> 16;
      for (let m = 0; m < disc.length; m += 3) {
        const x = px + disc[m], y = py + disc[m + 1];
        if (x < 0 || y < 0 || x >= w || y >= h) continue;
        const a = (disc[m + 2] * strength) >> 8, at = y * w + x, under = pixels[at];
        const ur = under & 255, ug = (under >> 8) & 255, ub = (under >> 16) & 255;
        pixels[at] = 0xff000000 | ((ub + (((b - ub) * a) >> 8)) << 16) | ((ug + (((g - ug) * a) >> 8)) << 8) | (ur + (((r - ur) * a) >> 8));
      }
    }
  }

  // A name in at most three lines of about twenty letters.
  static wrapped(name) {
    const lines = [""];
    for (const word of name.split(" ")) {
      const last = lines.length - 1;
      if (lines[last] && lines[last].length + word.length > 20 && lines.length < 3) lines.push(word);
      else lines[last] = lines[last] ? `${lines[last]} ${word}` : word;
    }
    return lines;
  }

  #drawLabels() {
    const { pen, view, width, height, ratio } = this, style = getComputedStyle(document.documentElement);
    const color = style.getPropertyValue("--ink"), halo = style.getPropertyValue("--halo"), taken = [];
    const family = getComputedStyle(document.body).fontFamily;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.textAlign = "center"; pen.textBaseline = "middle"; pen.lineJoin = "round";
    for (const label of this.labels()) {  // the important ones claim their place first
      const size = Math.round(Math.max(11, Math.min(16, 9 + Math.sqrt(label.weight) * 24))), { lines } = label;
      pen.font = `600 ${size}px ${family}`;
      const high = lines.length * size * 1.15, wide = Math.max(...lines.map((line) => pen.measureText(line).width));
      const anchor = label.x * view.scale + view.x, middle = label.y * view.scale + view.y;
      if (anchor < 0 || anchor > width || middle < 0 || middle > height) continue;
      const x = Math.max(wide / 2 + 6, Math.min(width - wide / 2 - 6, anchor));
      for (const shift of [0, -0.7, 0.7, -1.3, 1.3]) {
        const y = middle + shift * high, box = [x - wide / 2 - 5, y - high / 2 - 3, x + wide / 2 + 5, y + high / 2 + 3];
        if (taken.some((t) => box[0] < t[2] && box[2] > t[0] && box[1] < t[3] && box[3] > t[1])) continue;
        taken.push(box);
        pen.globalAlpha = label.faint ? 0.35 : 1;
        lines.forEach((line, k) => {
          const at = y + (k - (lines.length - 1) / 2) * size * 1.15;
          pen.lineWidth = 4; pen.strokeStyle = halo; pen.strokeText(line, x, at);
          pen.fillStyle = color; pen.fillText(line, x, at);
        });
        break;
      }
    }
    pen.globalAlpha = 1;
    for (const i of this.rings()) {
      pen.beginPath();
      pen.arc(...this.screenOf(i), 8, 0, 2 * Math.PI);
      pen.lineWidth = 2.5; pen.strokeStyle = color; pen.stroke();
    }
    this.overlay?.(pen);
    this.ink.dataset.labels = taken.length;
  }

  // Draw what is shown now, which has changed.
  refresh() {
    this.ranked = null;
    this.redraw();
  }

  redraw() {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      if (!this.pixels || !this.packed) return;
      const start = performance.now();
      this.#drawPoints();
      this.#drawLabels();
      this.ink.dataset.frame = (performance.now() - start).toFixed(1);
    });
  }

  // ---------------------------------------------------------------- places

  #fillGrid() {
    const { X, Y, size } = this, SIDE = PointMap.SIDE;
    const cellOf = (i) => ((Y[i] * SIDE) >> 16) * SIDE + ((X[i] * SIDE) >> 16);
    this.cells = new Uint32Array(SIDE * SIDE + 1);
    this.members = new Uint32Array(size);
    for (let i = 0; i < size; i++) this.cells[cellOf(i) + 1]++;
    for (let c = 0; c < SIDE * SIDE; c++) this.cells[c + 1] += this.cells[c];
    const fill = this.cells.slice();
    for (let i = 0; i < size; i++) this.members[fill[cellOf(i)]++] = i;
  }

  screenOf(i) { return [this.X[i] * this.view.scale + this.view.x, this.Y[i] * this.view.scale + this.view.y]; }
  worldOf(px, py) { return [(px - this.view.x) / this.view.scale, (py - this.view.y) / this.view.scale]; }

  pick(px, py) {  // the nearest point within PICK pixels that is not dimmed, or -1
    const { X, Y, cells, members } = this, SIDE = PointMap.SIDE;
    const [wx, wy] = this.worldOf(px, py), reach = PointMap.PICK / this.view.scale;
    const clamp = (v) => Math.max(0, Math.min(SIDE - 1, Math.floor((v * SIDE) / 65536)));
    let best = -1, least = reach * reach;
    for (let cy = clamp(wy - reach); cy <= clamp(wy + reach); cy++) for (let cx = clamp(wx - reach); cx <= clamp(wx + reach); cx++)
      for (let m = cells[cy * SIDE + cx]; m < cells[cy * SIDE + cx + 1]; m++) {
        const i = members[m], d = (X[i] - wx) ** 2 + (Y[i] - wy) ** 2;
        if (d < least && this.rank(i) > 0) { least = d; best = i; }
      }
    return best;
  }

  // ---------------------------------------------------------------- moving about

  zoomAt(px, py, factor) {
    const { view } = this, scale = Math.max(view.fit * 0.5, Math.min(view.fit * 400, view.scale * factor));
    view.x = px - ((px - view.x) * scale) / view.scale;
    view.y = py - ((py - view.y) * scale) / view.scale;
    view.scale = scale;
    this.redraw();
  }

  zoom(factor) { this.zoomAt(this.width / 2, this.height / 2, factor); }
  pan(dx, dy) { this.view.x += dx; this.view.y += dy; this.redraw(); }

  keys() {
    return {
      "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5), "0": () => this.whole(),
      ArrowLeft: () => this.pan(60, 0), ArrowRight: () => this.pan(-60, 0), ArrowUp: () => this.pan(0, 60), ArrowDown: () => this.pan(0, -60),
    };
  }

  // hover(i, px, py): the pointer is at a point, or at none (-1); select(i): it was clicked; pans and zooms by itself.
  // drawing(event): whether the pointer draws instead; then draw(event, phase) gets what it does.
  bindPointer({ hover, select, drawing = () => false, draw = () => {} }) {
    const { ink, fingers } = this;
    let moved = 0, draws = false;
    ink.addEventListener("pointerdown", (e) => {
      ink.setPointerCapture(e.pointerId);
      draws = drawing(e);
      if (draws) return draw(e, "begin");
      fingers.set(e.pointerId, [e.offsetX, e.offsetY]);
      moved = 0;
    });
    ink.addEventListener("pointermove", (e) => {
      if (draws) return draw(e, "move");
      const last = fingers.get(e.pointerId);
      if (!last) return hover(this.pick(e.offsetX, e.offsetY), e.offsetX, e.offsetY);
      const dx = e.offsetX - last[0], dy = e.offsetY - last[1];
      moved += Math.abs(dx) + Math.abs(dy);
      if (fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== e.pointerId)[1];
        const before = Math.hypot(last[0] - other[0], last[1] - other[1]), after = Math.hypot(e.offsetX - other[0], e.offsetY - other[1]);
        this.zoomAt((e.offsetX + other[0]) / 2, (e.offsetY + other[1]) / 2, after / Math.max(1, before));
      } else if (moved > 3) {
        ink.classList.add("panning");
        hover(-1);
        this.pan(dx, dy);
      }
      fingers.set(e.pointerId, [e.offsetX, e.offsetY]);
    });
    const release = (e) => {
      if (draws) { draws = false; return draw(e, e.type === "pointerup" ? "end" : "cancel"); }
      if (fingers.delete(e.pointerId) && e.type === "pointerup" && moved <= 3) select(this.pick(e.offsetX, e.offsetY));
      ink.classList.remove("panning");
    };
    ink.addEventListener("pointerup", release);
    ink.addEventListener("pointercancel", release);
    ink.addEventListener("pointerleave", () => hover(-1));
    ink.addEventListener("dblclick", (e) => this.zoomAt(e.offsetX, e.offsetY, 2));
    ink.addEventListener("wheel", (e) => { e.preventDefault(); this.zoomAt(e.offsetX, e.offsetY, Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0016))); }, { passive: false });
  }

  // Put an element beside the pointer, inside the stage.
  place(tip, px, py) {
    const wide = tip.offsetWidth, high = tip.offsetHeight;
    tip.style.left = `${px + 16 + wide > this.width ? Math.max(4, px - wide - 12) : px + 16}px`;
    tip.style.top = `${py + 16 + high > this.height ? Math.max(4, py - high - 12) : py + 16}px`;
  }
};
