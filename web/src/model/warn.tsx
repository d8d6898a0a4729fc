import { notifications } from "@mantine/notifications";

/** Shows what the node says of a change that it allowed and that may not be meant; it stays until somebody closes it. */
export function warn(done: string, warnings: readonly string[]) {
  if (warnings.length === 0) return;
  notifications.show({
    color: "amber",
    title: `${done}, with ${warnings.length === 1 ? "a warning" : `${warnings.length} warnings`}`,
    message: (
      <>
        {warnings.map((text) => (
          <p key={text}>{text}</p>
        ))}
      </>
    ),
    autoClose: false,
  });
}
