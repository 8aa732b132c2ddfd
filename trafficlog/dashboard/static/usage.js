// Draws the charts of usage from the table that stands below them.
"use strict";

(() => {
  const table = document.getElementById("usage");
  if (table === null) return;
  const COLUMN_SHARE = 0.72;
  const HEIGHT = 240;
  const language = document.documentElement.lang;
  const byDay = table.dataset.unit === "day";
  const rows = [...table.tBodies[0].rows].reverse();
  const names = rows.map((row) => row.cells[0].textContent);
  const headings = [...table.tHead.rows[0].cells];

  const column = (series) => {
    const index = headings.findIndex((cell) => cell.dataset.series === series);
    return {
      label: headings[index].textContent,
      values: rows.map((row) => Number(row.cells[index].dataset.value)),
    };
  };

  // One upon the other: the last one drawn is the lowest, in front of the others' whole height.
  const stacked = (columns) => {
    const sums = rows.map(() => 0);
    return columns.map(({ values }) => values.map((value, i) => (sums[i] += value)));
  };

  const short = new Intl.DateTimeFormat(language, {
    timeZone: "UTC", month: "short", ...(byDay ? { day: "numeric" } : { year: "2-digit" }),
  });
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 4 });

  const draw = (place) => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const columns = place.dataset.chart.split(" ").map((series) => ({ series, ...column(series) }));
    const sums = stacked(columns);
    const axis = {
      stroke: colour("--quiet"),
      font: `12px ${style.fontFamily}`,
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
    };
    const bars = uPlot.paths.bars({ size: [COLUMN_SHARE, 40], radius: [0.15, 0] });
    const series = columns.map((each, i) => ({
      label: each.label,
      stroke: colour(`--chart-${each.series}`),
      fill: colour(`--chart-${each.series}`),
      width: 0,
      paths: bars,
      points: { show: false },
      value: (_, __, ___, at) => (at === null ? "–" : number.format(each.values[at])),
      data: sums[i],
    })).reverse();
    place.replaceChildren();
    place.closest("figure").hidden = false;
    return new uPlot({
      width: place.clientWidth,
      height: HEIGHT,
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      legend: { live: true },
      scales: {
        x: { time: false, range: [-0.6, rows.length - 0.4] },
        y: { range: (_, __, top) => [0, top > 0 ? top * 1.08 : 1] },
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          space: byDay ? 70 : 60,
          incrs: [1, 2, 3, 4, 7, 14, 28],
          values: (_, at) => at.map((i) => {
            const row = rows[i];
            return row ? short.format(new Date(row.dataset.first)) : "";
          }),
        },
        { ...axis, size: 56, values: (_, at) => at.map((value) => number.format(value)) },
      ],
      series: [{ label: headings[0].textContent, value: (_, __, ___, at) => names[at] ?? "–" }, ...series],
    }, [rows.map((_, i) => i), ...series.map((each) => each.data)], place);
  };

  const places = [...document.querySelectorAll("[data-chart]")];
  let charts = [];
  const redraw = () => {
    for (const chart of charts) chart.destroy();
    charts = places.map(draw);
  };
  redraw();

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(() => {
    charts.forEach((chart, i) => {
      const width = places[i].clientWidth;
      if (width !== chart.width) chart.setSize({ width, height: HEIGHT });
    });
  }).observe(document.querySelector("main"));
})();
