(async () => {
  "use strict";

  // Points are drawn on a plain canvas. Plotly's WebGL traces compile code at run time, which the page's policy forbids.
  const canvas = document.getElementById("map");
  const pen = canvas.getContext("2d");
  const ring = document.getElementById("ring");
  const detail = document.getElementById("detail");
  const color = document.getElementById("color");
  const itemsBox = document.getElementById("questions");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const reach = 12;  // a point within this distance of the pointer, in pixels, is selected
  let data, centers, alone = null, shown = [], shownQuestions = [], pointed = null, waiting = false;
  const view = { x: 0, y: 0, scale: 1, width: 0, height: 0 };  // cached: reading width and height from the page costs more than drawing a point

  async function unpacked(id) {
    const packed = atob(document.getElementById(id).textContent.trim());
    const bytes = new Uint8Array(packed.length);
    for (let place = 0; place < packed.length; place++) bytes[place] = packed.charCodeAt(place);
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  // The golden angle separates the hues of consecutive topics for any number of topics. Byte order: alpha, blue, green, red.
  function paint(number) {
    const hue = (number * 137.508) % 360, light = dark.matches ? 0.62 : 0.4 + 0.08 * (number % 2), range = 0.65 * Math.min(light, 1 - light);
    const part = (offset) => {
      const k = (offset + hue / 30) % 12;
      return Math.round(255 * (light - range * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
    };
    return ((255 << 24) | (part(4) << 16) | (part(8) << 8) | part(0)) >>> 0;
  }

  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // --- selection

  function choose() {
    const sources = new Set([...document.querySelectorAll("#filter input:checked")].map((box) => Number(box.value)));
    const points = data.documents, rows = [];
    for (let row = 0; row < points.x.length; row++) {
      if (sources.has(points.of[row]) && (alone === null || points.cluster[row] === alone)) rows.push(row);
    }
    shown = rows;
    shownQuestions = [];
    if (itemsBox && itemsBox.checked) {
      data.questions.cluster.forEach((cluster, row) => {
        if (alone === null || cluster === alone) shownQuestions.push(row);
      });
    }
    document.getElementById("count").textContent = `${rows.length.toLocaleString("en")} documents shown`;
    canvas.dataset.shown = rows.length;
    point(null);
    redraw();
  }

  function middles() {
    const sums = data.terms.map(() => [0, 0, 0]), points = data.documents;
    points.cluster.forEach((cluster, row) => {
      sums[cluster][0] += points.x[row];
      sums[cluster][1] += points.y[row];
      sums[cluster][2] += 1;
    });
    return sums.map(([x, y, count]) => (count ? [x / count, y / count] : null));
  }

  // --- drawing

  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  const atX = (x) => (x - view.x) * view.scale + view.width / 2;
  const atY = (y) => view.height / 2 - (y - view.y) * view.scale;

  function draw() {
    const begun = performance.now(), ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    Object.assign(view, { width, height });
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    points(ratio);
    pen.strokeStyle = variable("--ink");
    pen.beginPath();
    for (const row of shownQuestions) diamond(atX(data.questions.x[row]), atY(data.questions.y[row]), 4);
    pen.stroke();
    labels(width, height);
    mark();
    canvas.dataset.milliseconds = (performance.now() - begun).toFixed(1);
  }

  // Writes single pixels: without a GPU, the canvas needs a second for 100,000 rectangles and this needs a few milliseconds.
  function points(ratio) {
    const { width, height } = canvas, image = pen.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    const { x, y } = data.documents, kinds = data.documents[color.value];
    const colors = Array.from({ length: Math.max(data.terms.length, data.sources.length) }, (_, kind) => paint(kind));
    const side = Math.round(ratio * (shown.length > 20000 ? 2 : shown.length > 3000 ? 3 : 5));
    for (const row of shown) {
      const left = Math.round(ratio * atX(x[row]) - side / 2), top = Math.round(ratio * atY(y[row]) - side / 2);
      if (left < 0 || top < 0 || left + side >= width || top + side >= height) continue;
      const ink = colors[kinds[row]], half = (ink & 0xfefefefe) >>> 1;
      for (let line = 0; line < side; line++) {
        for (let at = (top + line) * width + left, end = at + side; at < end; at++) {
          // Overlapping points average their colors.
          const before = pixels[at];
          pixels[at] = before === 0 ? ink : (((before & 0xfefefefe) >>> 1) + half) | 0xff000000;
        }
      }
    }
    pen.putImageData(image, 0, 0);
  }

  // The ring around the selected point is a separate element, so that moving the pointer does not redraw the canvas.
  function mark() {
    ring.hidden = !pointed;
    if (!pointed) return;
    ring.style.left = `${atX(pointed.points.x[pointed.row])}px`;
    ring.style.top = `${atY(pointed.points.y[pointed.row])}px`;
  }

  function point(found) {
    pointed = found;
    mark();
  }

  function diamond(x, y, size) {
    pen.moveTo(x, y - size);
    pen.lineTo(x + size, y);
    pen.lineTo(x, y + size);
    pen.lineTo(x - size, y);
    pen.closePath();
  }

  // Labels the largest topics first and omits labels that would overlap another.
  function labels(width, height) {
    const taken = [];
    pen.font = `12px ${variable("--font")}`;
    pen.textBaseline = "middle";
    centers.forEach((center, cluster) => {
      if (!center || (alone !== null && alone !== cluster)) return;
      const text = `${cluster + 1} ${data.terms[cluster].slice(0, 2).join(" ")}`, wide = pen.measureText(text).width + 8;
      const left = atX(center[0]) - wide / 2, top = atY(center[1]) - 9;
      if (left + wide < 0 || left > width || top + 18 < 0 || top > height) return;
      if (taken.some(([x, y, w]) => left < x + w && x < left + wide && top < y + 18 && y < top + 18)) return;
      taken.push([left, top, wide]);
      pen.globalAlpha = 0.85;
      pen.fillStyle = variable("--card");
      pen.fillRect(left, top, wide, 18);
      pen.globalAlpha = 1;
      pen.fillStyle = variable("--ink");
      pen.fillText(text, left + 4, top + 9);
    });
  }

  // --- navigation

  function fit() {
    let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
    const { x, y } = data.documents;
    for (let row = 0; row < x.length; row++) {
      left = Math.min(left, x[row]);
      right = Math.max(right, x[row]);
      bottom = Math.min(bottom, y[row]);
      top = Math.max(top, y[row]);
    }
    const across = Math.max(right - left, 1e-6), up = Math.max(top - bottom, 1e-6);
    Object.assign(view, {
      x: (left + right) / 2, y: (bottom + top) / 2,
      scale: 0.94 * Math.min(canvas.clientWidth / across, canvas.clientHeight / up),
    });
    redraw();
  }

  function zoom(factor, left = canvas.clientWidth / 2, top = canvas.clientHeight / 2) {
    const dx = left - canvas.clientWidth / 2, dy = canvas.clientHeight / 2 - top;
    view.x += (dx / view.scale) * (1 - 1 / factor);
    view.y += (dy / view.scale) * (1 - 1 / factor);
    view.scale *= factor;
    redraw();
  }

  function nearest(left, top) {
    let best = reach * reach, found = null;
    const scan = (points, rows, names) => {
      for (const row of rows) {
        const dx = atX(points.x[row]) - left, dy = atY(points.y[row]) - top, far = dx * dx + dy * dy;
        if (far < best) [best, found] = [far, { points, row, names }];
      }
    };
    scan(data.documents, shown, data.sources);
    scan(data.questions, shownQuestions, data.tasks);
    return found;
  }

  // Document text is untrusted: set it as text, never as markup.
  function describe(found) {
    if (!found || (pointed && pointed.row === found.row && pointed.points === found.points)) return;
    point(found);
    const cluster = found.points.cluster[found.row];
    detail.textContent = `${found.names[found.points.of[found.row]]}, topic ${cluster + 1}: ${data.terms[cluster].join(", ")}\n\n${found.points.text[found.row]}`;
  }

  function listen() {
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      drag = [event.offsetX, event.offsetY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointerup", () => { drag = null; });
    canvas.addEventListener("pointercancel", () => { drag = null; });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag) return describe(nearest(event.offsetX, event.offsetY));
      view.x -= (event.offsetX - drag[0]) / view.scale;
      view.y += (event.offsetY - drag[1]) / view.scale;
      drag = [event.offsetX, event.offsetY];
      redraw();
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoom(Math.exp(-Math.max(-400, Math.min(400, event.deltaY)) / 400), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = 60 / view.scale;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (event.key === "+" || event.key === "=") zoom(1.4);
      else if (event.key === "-") zoom(1 / 1.4);
      else if (event.key === "0") fit();
      else if (moves[event.key]) [view.x, view.y] = [view.x + moves[event.key][0], view.y + moves[event.key][1]];
      else return;
      event.preventDefault();
      redraw();
    });
    for (const [id, action] of [["nearer", () => zoom(1.4)], ["farther", () => zoom(1 / 1.4)], ["whole", fit]]) {
      document.getElementById(id).addEventListener("click", action);
    }
    new ResizeObserver(redraw).observe(canvas);
    dark.addEventListener("change", redraw);
  }

  function filters() {
    const group = document.getElementById("filter");
    data.sources.forEach((name, number) => {
      const label = document.createElement("label"), box = document.createElement("input");
      Object.assign(box, { type: "checkbox", value: number, checked: true });
      box.addEventListener("change", choose);
      label.append(box, ` ${name}`);
      group.append(label);
    });
    for (const control of [color, itemsBox]) if (control) control.addEventListener("change", choose);
    for (const row of document.querySelectorAll("#clusters tbody tr")) {
      const only = () => {
        const cluster = Number(row.dataset.cluster);
        alone = alone === cluster ? null : cluster;
        for (const other of row.parentElement.rows) other.setAttribute("aria-selected", alone !== null && other === row);
        choose();
      };
      row.addEventListener("click", only);
      row.addEventListener("keydown", (event) => { if (event.key === "Enter") only(); });
    }
  }

  try {
    const begun = performance.now();
    data = JSON.parse(await unpacked("data"));
    centers = middles();
    filters();
    listen();
    choose();
    fit();
    draw();
    Object.assign(document.documentElement.dataset, { map: "ready", opened: Math.round(performance.now() - begun) });
  } catch (error) {
    detail.textContent = `This browser cannot display the map (${error.message}). The table lists the topics.`;
    document.documentElement.dataset.map = "failed";
  }
})();
