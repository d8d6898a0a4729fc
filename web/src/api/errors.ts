import { Code, ConnectError } from "@connectrpc/connect";

import { ErrorInfoSchema, type ErrorInfo } from "../gen/pollux/v1/error_pb";

/** One sentence for a person: what the node said, or that it did not say anything. */
export function explain(error: unknown): string {
  const e = ConnectError.from(error);
  const said = e.rawMessage.trim();
  switch (e.code) {
    case Code.Unavailable:
      return said && !unreachable(said) ? said : "The node does not answer.";
    case Code.Unknown:
    case Code.Internal:
      return unreachable(said) ? "The node does not answer." : said || "The node failed without a reason.";
    case Code.DeadlineExceeded:
      return said || "The node took too long to answer.";
    case Code.PermissionDenied:
      return said || "Your key does not allow this.";
    case Code.Aborted:
      return said || "Somebody changed it meanwhile; load it again.";
    default:
      return said || Code[e.code] || "It failed.";
  }
}

/** What the node says of an error besides its sentence: where it is wrong, whether it was done. */
export function infoOf(error: unknown): ErrorInfo | undefined {
  return ConnectError.from(error).findDetails(ErrorInfoSchema)[0];
}

/**
 * The place of an error as a form's own path: `/settings/port` as `/port`, a field of the request such as `/uri` as `#uri`.
 * Undefined where the node names none.
 */
export function placeOf(error: unknown, fields: readonly string[] = []): string | undefined {
  const path = infoOf(error)?.path;
  if (!path) return undefined;
  const bare = path.replace(/^\/?twin[./]/, "/");
  if (bare.startsWith("/settings")) return bare.slice("/settings".length);
  return fields.includes(bare.slice(1)) ? `#${bare.slice(1)}` : bare;
}

/** Whether there is no such thing. */
export function isNotFound(error: unknown): boolean {
  return ConnectError.from(error).code === Code.NotFound;
}

/** Whether the request failed on its way, so that nobody answered it. */
export function unanswered(error: unknown): boolean {
  return unreachable(ConnectError.from(error).rawMessage);
}

/** What browsers say when the connection itself failed. */
function unreachable(message: string): boolean {
  return /failed to fetch|networkerror|load failed|network error|err_/i.test(message);
}

/** Whether trying the same again may help: the node or the way to it failed, not the request. */
export function passing(error: unknown): boolean {
  switch (ConnectError.from(error).code) {
    case Code.InvalidArgument:
    case Code.NotFound:
    case Code.AlreadyExists:
    case Code.PermissionDenied:
    case Code.Unauthenticated:
    case Code.Unimplemented:
    case Code.FailedPrecondition:
    case Code.OutOfRange:
      return false;
    default:
      return true;
  }
}
