// Draws every figure of the page in its place, in the colors of the page.
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
function themed(layout) {
  const style = getComputedStyle(document.documentElement), color = name => style.getPropertyValue(name).trim();
  const axis = {gridcolor: color("--line"), zerolinecolor: color("--line"), linecolor: color("--line"), color: color("--ink")};
  const modebar = {bgcolor: "rgba(0,0,0,0)", color: color("--soft"), activecolor: color("--accent")};
  return {...layout, modebar, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: {family: getComputedStyle(document.body).fontFamily, size: 13, color: color("--ink")},
    hoverlabel: {bgcolor: color("--panel"), bordercolor: color("--line"), font: {color: color("--ink")}},
    xaxis: {...layout.xaxis, ...axis}, yaxis: {...layout.yaxis, ...axis}};
}
function draw() {
  for (const [name, figure] of Object.entries(figures)) {
    const place = document.getElementById("plot-" + name);
    if (place) Plotly.react(place, figure.data, themed(figure.layout),
      {responsive: true, displaylogo: false, displayModeBar: name === "timeline", scrollZoom: name === "timeline",
        modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]});
  }
}
draw();
dark.addEventListener("change", draw);
