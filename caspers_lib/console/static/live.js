// The chart of orders per minute: its numbers are attributes of #rate, and change with the page.
(() => {
  let chart = null;
  const numbers = (text) => text.split(" ").map(Number);
  const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name);
  const clock = (_chart, seconds) => seconds.map((s) => new Date(s * 1000).toISOString().slice(11, 16));

  function options(box) {
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    return {
      ...size(box),
      legend: { show: false },
      cursor: { show: false },
      scales: { y: { range: (_chart, _low, high) => [0, Math.max(2, Math.ceil(high * 1.1))] } },
      axes: [
        { ...axis, values: clock, space: 60, grid: { show: false } },
        { ...axis, size: 32, incrs: [1, 2, 5, 10, 20, 50, 100] },
      ],
      series: [
        {},
        { stroke: colour("--bar"), fill: colour("--bar"), paths: uPlot.paths.bars({ size: [0.9], gap: 0 }), points: { show: false } },
        { stroke: colour("--accent"), width: 2, points: { show: false } },
      ],
    };
  }

  const size = (box) => ({ width: Math.max(200, box.clientWidth), height: box.clientHeight });

  function draw() {
    const rate = document.getElementById("rate");
    const box = document.getElementById("rate-plot");
    if (!box) { chart = null; return; }
    const counts = numbers(rate.dataset.counts);
    const first = Number(rate.dataset.first);
    const data = [counts.map((_, minute) => first + 60 * minute), counts, numbers(rate.dataset.smooth)];
    if (chart?.root.isConnected) { chart.setData(data); return; }
    chart = new uPlot(options(box), data, box);
    new ResizeObserver(() => chart?.setSize(size(box))).observe(box);
  }

  document.addEventListener("DOMContentLoaded", draw);
  document.addEventListener("htmx:afterSwap", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart?.redraw(false));
})();
