(async () => {
  "use strict";

  const darkTheme = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 640px)");
  let printing = false;

  let figures = {};
  let dark = {};
  let library = "";

  // --- plots

  async function unpacked(id) {
    const packed = atob(document.getElementById(id).textContent.trim());
    const bytes = new Uint8Array(packed.length);  // a loop, because Uint8Array.from with a function takes a second for 4 MB
    for (let place = 0; place < packed.length; place++) bytes[place] = packed.charCodeAt(place);
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  // Figures use the colors of the light theme.
  function recolored(value, colors) {
    if (Array.isArray(value)) return value.map((inner) => recolored(inner, colors));
    if (value && typeof value === "object") {
      return Object.fromEntries(
        Object.entries(value).map(([key, inner]) => [
          key,
          /color$/.test(key) && typeof inner === "string" ? colors[inner] ?? inner : recolored(inner, colors),
        ]),
      );
    }
    return value;
  }

  // Print uses a white background in every theme and a fixed width.
  const paper = { "--line": "#ccc", "--muted": "#444", "--ink": "#000", "--card": "#fff" };
  const paperWidth = 640;

  function variable(name) {
    if (printing && paper[name]) return paper[name];
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  const textSize = 12;
  const rulerContext = document.createElement("canvas").getContext("2d");

  // Width in pixels of the widest of several labels of plotly, which are escaped and may be bold.
  function widest(labels) {
    const widths = labels.map((label) => {
      rulerContext.font = `${label.startsWith("<b>") ? "bold " : ""}${textSize}px ${variable("--font")}`;
      const plain = label.replace(/<\/?b>/g, "").replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
      return rulerContext.measureText(plain).width;
    });
    return Math.ceil(Math.max(0, ...widths));
  }

  // Whether row names are placed above their rows: next to the plot they would take too much of its width.
  function stacked(figure, width) {
    const rows = figure.layout.meta && figure.layout.meta.rows;
    return Boolean(rows) && ((narrow.matches && !printing) || (width > 0 && widest(rows) > 0.4 * width));
  }

  function laidOut(figure, above) {
    const line = variable("--line");
    const rows = figure.layout.meta && figure.layout.meta.rows;
    const axis = { gridcolor: line, linecolor: line, zerolinecolor: variable("--muted"), zerolinewidth: 1, fixedrange: false, automargin: false };
    const layout = {
      ...figure.layout,
      autosize: !printing,
      ...(printing && { width: paperWidth }),
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: variable("--font"), size: textSize, color: variable("--ink") },
      // Left and bottom margins are fixed: margins that plotly fits to the labels change the labels, and it redraws in a loop.
      // Only the legend still grows a margin, at the top. The title of a numeric axis takes 28 pixels.
      margin: { l: above ? 16 : rows ? widest(rows) + 14 : widest(["0.00000"]) + 28, r: 16, t: 8, b: 52, pad: 4 },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.01, yanchor: "bottom", itemsizing: "constant" },
      hoverlabel: {
        align: "left",
        bgcolor: variable("--card"),
        bordercolor: variable("--muted"),
        font: { color: variable("--ink"), family: variable("--font") },
      },
      xaxis: { ...axis, tickangle: 0, ...figure.layout.xaxis },
      yaxis: { ...axis, ...figure.layout.yaxis },
      dragmode: narrow.matches ? false : "zoom",
    };
    const named = figure.data.filter((trace) => trace.name && trace.showlegend !== false).length;
    if (narrow.matches && !printing && !rows && named > 4) {
      layout.height = Math.max(figure.layout.height + 20 * (named - 4), 44 * named);  // plotly limits a legend to half of the height
    }
    if (rows) {
      layout.yaxis.showgrid = false;
      if (above) {
        layout.height = figure.layout.meta.narrow;
        layout.yaxis.showticklabels = false;
        layout.xaxis.title = { ...layout.xaxis.title, font: { size: 11 } };
        layout.annotations = rows.map((text, row) => ({
          text, x: 0, xref: "paper", xanchor: "left", y: row - 0.5, yref: "y", yanchor: "top", showarrow: false,
          font: { size: 11, color: variable("--muted") },
        }));
      }
    }
    return layout;
  }

  // Shift the marks down to make room for the name above them.
  function lowered(data) {
    const at = (y) => Math.round(y) + 0.2 + (y - Math.round(y)) * 0.68;
    return data.map((trace) => ({ ...trace, y: trace.y.map(at), ...(trace.width && { width: trace.width * 0.68 }) }));
  }

  function draw(holder) {
    const figure = figures[holder.dataset.figure];
    const above = stacked(figure, printing ? paperWidth : holder.clientWidth);
    const light = printing || !darkTheme.matches;
    const config = {
      responsive: !printing,
      displaylogo: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "pan2d", "zoom2d"],
      toImageButtonOptions: { filename: holder.dataset.figure, scale: 2 },
    };
    const data = recolored(above ? lowered(figure.data) : figure.data, light ? {} : dark);
    holder.dataset.drawn = "yes";
    return Plotly.react(holder, data, laidOut(figure, above), config);
  }

  const holders = [...document.querySelectorAll("[data-figure]")];

  function drawAgain() {
    for (const holder of holders) if (holder.dataset.drawn) draw(holder);
  }

  // Plotly needs 0.5 to 1.5 seconds to start, so it starts when a plot comes near the viewport or when the page is printed.
  function start() {
    if (window.Plotly) return;
    const script = document.createElement("script");
    script.textContent = library;
    document.head.append(script);
  }

  async function plots() {
    if (!holders.length) return;
    for (const button of document.querySelectorAll("[data-csv-figure]")) {
      const id = button.dataset.csvFigure;
      button.addEventListener("click", async () => save(id, JSON.parse(await unpacked("tables"))[id]));
    }
    try {
      ({ figures, dark } = JSON.parse(await unpacked("plots")));
      library = await unpacked("library");
    } catch (error) {
      for (const holder of holders) holder.textContent = `This browser cannot display the plot (${error.message}). The tables contain its data.`;
      return;
    }
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting || entry.target.dataset.drawn) continue;
        start();
        draw(entry.target);
      }
    }, { rootMargin: "800px" });
    for (const holder of holders) watcher.observe(holder);
    darkTheme.addEventListener("change", drawAgain);
    narrow.addEventListener("change", drawAgain);
    addEventListener("beforeprint", () => {
      printing = true;
      start();
      for (const holder of holders) if (holder.offsetParent) draw(holder);
    });
    addEventListener("afterprint", () => {
      printing = false;
      drawAgain();
    });
    document.documentElement.dataset.plots = "ready";
  }

  // --- CSV export

  function cell(value) {
    if (value === null || value === undefined) return "";
    let text = String(value);
    // A spreadsheet would evaluate text with these prefixes as a formula.
    if (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function save(name, rows) {
    const text = rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = `${name}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function tableRows(table) {
    const value = (td) => (td.dataset.value !== undefined ? td.dataset.value : td.textContent.trim().replace(/\s+/g, " "));
    return [...table.rows].map((row) => [...row.cells].map(value));
  }

  for (const button of document.querySelectorAll("[data-csv-table]")) {
    const table = document.getElementById(button.dataset.csvTable);
    button.addEventListener("click", () => save(table.id, tableRows(table)));
  }

  // --- sorting and filtering of tables

  function key(row, column) {
    const td = row.cells[column];
    const raw = td.dataset.value !== undefined ? td.dataset.value : td.textContent.trim();
    const number = raw === "" ? NaN : Number(raw);
    return { raw, number };
  }

  function compared(a, b) {
    const numbers = !Number.isNaN(a.number) && !Number.isNaN(b.number);
    return numbers ? a.number - b.number : a.raw.localeCompare(b.raw, "en", { numeric: true });
  }

  function sort(table, column, header) {
    const falling = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => ({ row, key: key(row, column) }));
    // Rows without a value come last in either direction.
    keyed.sort((a, b) => (a.key.raw === "") - (b.key.raw === "") || (falling ? -1 : 1) * compared(a.key, b.key));
    body.append(...keyed.map(({ row }) => row));
  }

  for (const table of document.querySelectorAll("table.sorts")) {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, column, header));
      header.append(button);
    });
  }

  for (const input of document.querySelectorAll("input[data-filters]")) {
    const table = document.getElementById(input.dataset.filters);
    const shown = document.getElementById(`${table.id}-shown`);
    const folded = table.closest("details");
    input.addEventListener("input", () => {
      if (folded) folded.open = true;
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const rows = [...table.tBodies[0].rows];
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every((word) => text.includes(word));
      }
      const left = rows.filter((row) => !row.hidden).length;
      shown.textContent = wanted.length ? `${left} of ${rows.length} rows` : "";
    });
  }

  // A link to an element in a closed section opens the section.
  function unfold() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    if (target) target.scrollIntoView();
  }
  addEventListener("hashchange", unfold);

  await plots();
  unfold();
})();
