import { Tooltip } from "@mantine/core";

import { useLink } from "../api/link";
import { useNow } from "../live/now";

const words = { live: "Live", connecting: "Connecting", offline: "Offline", failed: "Refused" };

/** A dot that tells whether what the page shows is live. */
export function LinkBadge() {
  const link = useLink();
  return (
    <Tooltip label={link.error ?? words[link.state]} position="right">
      <span className="link-badge" data-state={link.state} role="status">
        <i aria-hidden="true" />
        {words[link.state]}
      </span>
    </Tooltip>
  );
}

/** Says that the node is out of reach and when the next try starts. */
export function LinkBanner() {
  const link = useLink();
  if (link.state !== "offline") return null;
  return (
    <div className="banner" role="alert">
      <b>Offline.</b> {link.error} What you see may be old. {link.retryAt !== undefined && <Countdown until={link.retryAt} />}
    </div>
  );
}

function Countdown({ until }: { until: number }) {
  const left = Math.ceil((until - useNow()) / 1000);
  return <span className="muted">{left > 0 ? `Next try in ${left} s.` : "Trying again …"}</span>;
}
