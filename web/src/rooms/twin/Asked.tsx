import { Progress, type Desired } from "../../gen/pollux/v1/twin_pb";
import { dateTime, millis, plain, show } from "../../model/value";

const words: Record<Progress, string> = {
  [Progress.UNSPECIFIED]: "asked",
  [Progress.ASKED]: "asked",
  [Progress.SENT]: "sent",
  [Progress.CONFIRMED]: "confirmed",
  [Progress.EXPIRED]: "expired",
  [Progress.REJECTED]: "rejected",
};

const steps: Record<Progress, number> = {
  [Progress.UNSPECIFIED]: 1,
  [Progress.ASKED]: 1,
  [Progress.SENT]: 2,
  [Progress.CONFIRMED]: 3,
  [Progress.EXPIRED]: 2,
  [Progress.REJECTED]: 2,
};

/** What was asked, and three marks: committed, sent, confirmed by the device; and why it is not there yet. */
export function Asked({ desired, waitsFor }: { desired: Desired; waitsFor: string }) {
  const word = words[desired.progress];
  const why = desired.error || waitsFor;
  const by = desired.by ? ` by ${desired.by}` : "";
  return (
    <div className="asked" data-progress={word} title={`${dateTime(millis(desired.time))}${by}`}>
      <b>{show(plain(desired.value))}</b>
      <span className="steps" aria-hidden="true">
        {[1, 2, 3].map((n) => (
          <i key={n} data-on={n <= steps[desired.progress] || undefined} />
        ))}
      </span>
      <small>{why ? `${word}${desired.error ? ":" : ","} ${why}` : word}</small>
    </div>
  );
}
