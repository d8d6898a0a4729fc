const day = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });
const minute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const second = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** What stands at the ticks of an axis of time, in seconds: clocks of 24 hours, and the day where a new one begins or ticks are that far apart. */
export function ticks(at: number[], apart: number): string[] {
  let before = "";
  return at.map((t) => {
    const today = day.format(t * 1000);
    const changed = before !== "" && today !== before;
    before = today;
    if (apart >= 86_400 || changed) return today;
    return (apart < 60 ? second : minute).format(t * 1000);
  });
}
