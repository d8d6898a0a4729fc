// Judges readings by the median of those before them (F. R. Hampel, "The influence curve and its role in robust estimation", JASA 1974): outliers
// do not move the median, so many of them in a row are still found.
//
//   pollux logic push deploy/examples/logic/hampel.js
//   pollux detector create spikes --property temperature --logic hampel --threshold 6
const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

export default logic({
  name: 'hampel', version: '1.0.0', title: 'Hampel filter',
  settings: {
    window: { type: 'integer', title: 'Readings that are remembered', minimum: 5, maximum: 201, default: 25 },
    floor: { type: 'number', title: 'Least deviation that is taken for real', minimum: 0, default: 0.001 },
  },
  run({ value }, context) {
    const { memory, settings } = context;
    const window = memory.twin.window ?? [];
    memory.twin.window = [...window, value].slice(-settings.window);
    if (window.length < Math.min(5, settings.window)) return; // it has not seen enough to judge
    const expected = median(window);
    const deviation = 1.4826 * median(window.map((x) => Math.abs(x - expected))); // of a normal distribution
    return context.replace({ score: Math.abs(value - expected) / Math.max(deviation, settings.floor), expected });
  },
});
