(() => {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const roomy = matchMedia("(min-width: 600px) and (hover: hover)").matches;
  // The buttons are listed because Plotly's own list has one that sends the figure's data to a website.
  const config = { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
    displayModeBar: roomy ? "hover" : false,
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]] };
  const draw = (node, printing) => {
    const figure = read(node.id + "-data");
    if (node.dataset.theme === "own") {
      figure.layout.template = read("themes")[dark.matches && !printing ? "dark" : "light"];
    }
    if (printing) { figure.layout.width = 680; }
    if (!node.querySelector(".plot-container")) { node.replaceChildren(); }
    return Plotly.react(node, figure.data, figure.layout, config);
  };
  const drawAll = (printing) => {
    for (const node of document.querySelectorAll(".plot")) {
      const words = node.getAttribute("aria-label");
      const failed = (error) => { node.textContent = words; node.dataset.failed = String(error); };
      try { draw(node, printing).then(() => { node.dataset.drawn = "yes"; }, failed); } catch (error) { failed(error); }
    }
  };
  drawAll(false);
  dark.addEventListener("change", () => drawAll(false));
  addEventListener("beforeprint", () => drawAll(true));
  addEventListener("afterprint", () => drawAll(false));
})();
