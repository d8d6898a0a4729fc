import { split } from "../../model/id";

interface Props {
  id: string;
  title: string;
  note?: string;
  pill?: string;
  bad?: boolean;
  chosen: boolean;
  onChoose: () => void;
}

/** A line of the list at the side. */
export function Item({ id, title, note, pill, bad, chosen, onChoose }: Props) {
  return (
    <li>
      <button type="button" className="list-item" aria-current={chosen ? "true" : undefined} onClick={onChoose}>
        <span>
          <b>{title || split(id).name}</b>
          {id !== title && <code>{id}</code>}
        </span>
        {note && <span className="muted">{note}</span>}
        {pill && <span className={bad ? "pill pill-bad" : "pill"}>{pill}</span>}
      </button>
    </li>
  );
}
