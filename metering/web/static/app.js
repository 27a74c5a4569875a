"use strict";
// Draws what the server has put into the page; figures that must be exact stand in the text.
(() => {
  document.documentElement.classList.add("js");
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const day = new Intl.DateTimeFormat("en", { timeZone: "UTC", day: "numeric", month: "short" });

  function draw(figure) {
    const data = JSON.parse(figure.dataset.chart);
    const axis = { stroke: colour("--soft"), font: "12px system-ui", grid: { stroke: colour("--rule"), width: 1 }, ticks: { show: false } };
    const options = {
      width: Math.max(200, figure.clientWidth), height: figure.clientHeight,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      legend: { show: false }, cursor: { show: false },
      scales: { x: { time: true, range: (_, low, high) => [low - 43200, high + 43200] }, y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1] } },
      axes: [
        { ...axis, grid: { show: false }, size: 26, gap: 4, space: 60, values: (_, ticks) => ticks.map((at) => day.format(at * 1000)) },
        { ...axis, size: 48, gap: 6, values: (_, ticks) => ticks.map((value) => short.format(value)) },
      ],
      series: [{}, ...data.names.map((name) => ({ label: name, fill: colour("--accent"), paths: uPlot.paths.bars({ size: [0.65, 40], radius: 0.15 }), points: { show: false } }))],
    };
    figure.replaceChildren();
    new uPlot(options, [data.times, ...data.values.map((row) => row.map(Number))], figure);
  }

  const all = () => document.querySelectorAll("[data-chart]").forEach(draw);
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(all, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  document.querySelectorAll("[data-submit]").forEach((field) => field.addEventListener("change", () => field.form.submit()));
  all();
})();
