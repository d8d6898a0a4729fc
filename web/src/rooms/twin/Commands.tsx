import { CommandPhase, type CommandStatus } from "../../gen/pollux/v1/twin_pb";
import { useNow } from "../../live/now";
import { ago, dateTime, millis, plain, show } from "../../model/value";
import { outcomes } from "../../model/outcomes";

const phases: Record<CommandPhase, string> = {
  [CommandPhase.UNSPECIFIED]: "queued",
  [CommandPhase.QUEUED]: "queued",
  [CommandPhase.STARTED]: "running",
  [CommandPhase.ENDED]: "ended",
};

/** Commands that nobody waits for: what is still to be run, and what became of the last ones; the newest first. */
export function Commands({ commands }: { commands: readonly CommandStatus[] }) {
  const now = useNow();
  if (commands.length === 0) return null;
  return (
    <ul className="commands" aria-label="Commands that nobody waits for">
      {commands.toReversed().map((c) => {
        const word = c.phase === CommandPhase.ENDED ? outcomes[c.outcome] : phases[c.phase];
        const at = millis(c.endTime) ?? millis(c.time);
        const given = plain(c.output);
        const text = c.message || (given === undefined || given === null ? "" : show(given));
        return (
          <li key={c.id} className="outcome" data-outcome={word} title={`${c.id}, asked ${dateTime(millis(c.time))}${c.by && ` by ${c.by}`}`}>
            <code>{c.action}</code> <b>{word}</b>
            {text && <span className="clip">{text}</span>}
            <small className="muted">{ago(at, now)}</small>
          </li>
        );
      })}
    </ul>
  );
}
