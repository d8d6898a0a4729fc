import { Line } from "./Line";

/** Lines of a terminal that fill an empty room; each says what it does. */
export function Try({ lines }: { lines: { what: string; line: string }[] }) {
  return (
    <div className="try">
      {lines.map(({ what, line }) => (
        <div key={what}>
          <span className="muted">{what}</span>
          <Line text={line} label={what} />
        </div>
      ))}
    </div>
  );
}

/** Text as one word of a shell. */
export function quote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
