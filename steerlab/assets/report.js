(() => {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const make = (tag, text, name) => {
    const node = document.createElement(tag);
    if (text !== undefined) { node.textContent = text; }
    if (name) { node.className = name; }
    return node;
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const roomy = matchMedia("(min-width: 600px) and (hover: hover)").matches;
  // The buttons are listed because Plotly's own list has one that sends the figure's data to a website.
  const config = { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
    displayModeBar: roomy ? "hover" : false,
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]] };

  // Numbers in cells are set as large as all of them fit, and left out (the colour and the list remain) where none could be read.
  const fitNumbers = (figure, width) => {
    for (const trace of figure.data) {
      if (trace.type !== "heatmap" || !trace.texttemplate || !trace.text) { continue; }
      const longest = Math.max(...trace.text.flat().map((text) => text.length));
      const size = Math.min(13, Math.floor((width - 90) / trace.text[0].length / (0.62 * longest + 0.2)));
      if (size < 9) { delete trace.texttemplate; } else { trace.textfont = { size }; }
    }
  };

  // The cell that was chosen has a thick frame.
  const frameCell = (figure, key) => {
    figure.data.forEach((trace) => (trace.type === "heatmap" && trace.customdata || []).forEach((row, y) => row.forEach((cell, x) => {
      if (cell !== key) { return; }
      figure.layout.shapes = [...(figure.layout.shapes || []), { type: "rect", xref: trace.xaxis || "x", yref: trace.yaxis || "y",
        x0: x - 0.5, x1: x + 0.5, y0: y - 0.5, y1: y + 0.5, line: { width: 5 } }];
    })));
  };

  const draw = (node, printing) => {
    const figure = read(node.id + "-data");
    if (node.dataset.theme === "own") {
      figure.layout.template = read("themes")[dark.matches && !printing ? "dark" : "light"];
    }
    if (printing) { figure.layout.width = 680; }
    fitNumbers(figure, printing ? 680 : node.clientWidth);
    if (node.dataset.chosen) { frameCell(figure, node.dataset.chosen); }
    if (!node.querySelector(".plot-container")) { node.replaceChildren(); }
    // A height of its own, so that the page does not jump while a figure is drawn at another width.
    if (figure.layout.height) { node.style.height = figure.layout.height + "px"; }
    return Plotly.react(node, figure.data, figure.layout, config);
  };
  const drawn = (node, printing) => {
    const words = node.getAttribute("aria-label");
    const failed = (error) => { node.style.height = ""; node.textContent = words; node.dataset.failed = String(error); };
    try { return draw(node, printing).then(() => { node.dataset.drawn = "yes"; }, failed); } catch (error) { failed(error); }
    return Promise.resolve();
  };
  const drawAll = (printing) => Promise.all([...document.querySelectorAll(".plot")].map((node) => drawn(node, printing)));

  // Texts become nodes, never markup; prompts keep a direction of their own.
  const said = (text) => make("bdi", text || "(no answer, or a tie)");
  const answered = (text, good) => [said(text), " ", make("span", good ? "✓ right" : "✗ wrong", "mark")];
  const item = ([id, prompt, target, before], after, became) => {
    const entry = make("li", undefined, became);
    const name = make("p", undefined, "name");
    name.append(said(id));
    const question = make("div", prompt, "prompt");
    question.dir = "auto";
    const answers = make("p");
    answers.append("Unsteered ", ...answered(before, became === "wrong"), ", steered ", ...answered(after, became === "right"),
      "; right is ", said(target), ".");
    entry.append(name, question, answers);
    return entry;
  };
  const group = (cell, became, problems) => {
    const rows = cell.shown.filter((row) => row[2] === became);
    const total = cell[became];
    if (!total) { return []; }
    const list = make("ol", undefined, "problems");
    list.append(...rows.map(([place, after]) => item(problems[place], after, became)));
    const few = rows.length < total ? `, the first ${rows.length} shown` : "";
    return [make("h4", `Became ${became}: ${total}${few}`), list];
  };
  const explain = (box) => {
    const { cells, problems } = read(box.dataset.figure + "-details");
    const node = document.getElementById(box.dataset.figure);
    const select = box.querySelector("select");
    const status = box.querySelector(".said");
    const listed = box.querySelector(".listed");
    const known = new Map(cells.map((cell) => [cell.key, cell]));
    for (const cell of cells) {
      const option = make("option", `${cell.name}: ${cell.right} became right, ${cell.wrong} wrong`);
      option.value = cell.key;
      select.append(option);
    }
    const show = (key) => {
      const cell = known.get(key);
      node.dataset.chosen = key || "";
      select.value = cell ? key : "";
      status.textContent = cell ? `${cell.name}: ${cell.right} became right, ${cell.wrong} became wrong.`
        : key ? "Nothing changed there." : "";
      listed.replaceChildren(...(cell ? [...group(cell, "right", problems), ...group(cell, "wrong", problems)] : []));
      return drawn(node, false);
    };
    select.addEventListener("change", () => show(select.value));
    if (node.on) {
      node.on("plotly_click", (event) => {
        const key = event.points.map((point) => point.customdata).find((value) => typeof value === "string" && value);
        if (key !== undefined) { show(key).then(() => status.scrollIntoView({ block: "nearest" })); }
      });
    }
    box.hidden = false;
  };

  const copying = (button) => {
    const source = document.getElementById(button.dataset.copies);
    const done = button.parentElement.querySelector(".done");
    button.hidden = false;
    button.addEventListener("click", () => {
      getSelection().selectAllChildren(source);
      const told = (worked) => { done.textContent = worked ? "Copied." : "Marked; copy it with your keyboard."; };
      const text = [...source.querySelectorAll("p, li")].map((node) => node.textContent).join("\n");
      if (navigator.clipboard) { navigator.clipboard.writeText(text).then(() => told(true), () => told(document.execCommand("copy"))); }
      else { told(document.execCommand("copy")); }
    });
  };

  // Figures are drawn as wide as they are shown, and what is folded has no width.
  const rest = document.querySelector("details.rest");
  const unfold = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && rest && rest.contains(target) && !rest.open) { rest.open = true; target.scrollIntoView(); }
  };
  unfold();
  addEventListener("hashchange", unfold);
  if (rest) { rest.addEventListener("toggle", () => { if (rest.open) { drawAll(false).then(() => { rest.dataset.drawn = "yes"; }); } }); }

  drawAll(false).then(() => {
    document.querySelectorAll(".details").forEach(explain);
    document.documentElement.dataset.ready = "yes";
  });
  document.querySelectorAll("button.copy").forEach(copying);
  dark.addEventListener("change", () => drawAll(false));
  let width = innerWidth;
  let waiting = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) { return; }
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => drawAll(false), 200);
  });
  addEventListener("beforeprint", () => {
    if (rest) { rest.open = true; }
    drawAll(true);
  });
  addEventListener("afterprint", () => drawAll(false));
})();
