import { notifications } from "@mantine/notifications";

import { explain } from "../../api/errors";
import { key } from "../../api/session";

const page = "/victoria/vmui/";

/** Opens the metrics' own pages. They know the cookie and not this tab's key, so the key buys a cookie first. */
export async function openMetrics() {
  // Opened at the click, before anything is awaited: a later window would be taken for an advertisement.
  const tab = window.open("about:blank", "_blank");
  try {
    if (key()) {
      const answer = await fetch("/login", {
        method: "POST",
        credentials: "same-origin",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ key: key() }),
      });
      if (!answer.ok) throw new Error(`the node gave no session: ${answer.status}`);
    }
    if (tab) tab.location.href = page;
  } catch (error) {
    tab?.close();
    notifications.show({ color: "red", message: explain(error) });
  }
}
