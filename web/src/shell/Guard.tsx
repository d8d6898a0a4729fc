import { Button } from "@mantine/core";
import { Component, type ReactNode } from "react";

/** Keeps a mistake in one room from emptying the whole page. */
export class Guard extends Component<{ path: string; children: ReactNode }, { error?: Error }> {
  override state: { error?: Error } = {};

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  /** Another room, another chance. */
  override componentDidUpdate(before: { path: string }) {
    if (before.path !== this.props.path && this.state.error) this.setState({ error: undefined });
  }

  override render() {
    if (!this.state.error) return this.props.children;
    return (
      <div className="empty" role="alert">
        <b>This room broke.</b>
        <code>{this.state.error.message}</code>
        <Button variant="default" onClick={() => window.location.reload()}>
          Load it again
        </Button>
      </div>
    );
  }
}
