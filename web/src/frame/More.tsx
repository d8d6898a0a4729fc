import { Button } from "@mantine/core";
import type { ReactNode } from "react";

interface Props {
  query: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown };
  /** What the button says. */
  label?: string;
  /** How much is shown, or what else is to be known of the list. */
  children?: ReactNode;
}

/** The foot of a list that is read by pages: a button for the next one, as long as there is one. */
export function More({ query, label = "More", children }: Props) {
  if (!query.hasNextPage) return null;
  return (
    <div className="toolbar">
      <Button variant="default" loading={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
        {label}
      </Button>
      {children && <span className="muted">{children}</span>}
    </div>
  );
}
