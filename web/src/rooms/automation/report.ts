import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";

import { ScheduleSchema, TableFormat, type Schedule } from "../../gen/pollux/v1/automation_pb";

/** What the form of a report asks for. */
export interface Report {
  name: string;
  notifier: string;
  properties: string[];
  model: string;
  twins: string[];
  /** 07:00, of the wall clock of zone. */
  time: string;
  /** mon to sun; none: each day. */
  weekdays: string[];
  zone: string;
  hours: number;
  stepMinutes: number;
  aggregate: string;
  formats: string[];
}

export const aggregates = ["avg", "min", "max", "sum", "count", "first", "last"];
export const weekdays = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const formats: Record<string, TableFormat> = { csv: TableFormat.CSV, html: TableFormat.HTML };

/** The schedule that a report is: it notifies, with a table of the history for each format. */
export function scheduleOf(r: Report, id: string): Schedule {
  const name = id.slice(id.indexOf("/") + 1);
  return create(ScheduleSchema, {
    id,
    timing: { when: { case: "calendar", value: { times: [r.time], weekdays: r.weekdays } }, zone: r.zone },
    actions: [
      {
        do: {
          case: "notify",
          value: {
            notifier: r.notifier,
            subject: `Report ${name}`,
            body: `${r.properties.join(", ")} of the ${r.hours} h before \${due}.`,
            attachments: r.formats.map((format) => ({
              name: `${name}.${format}`,
              content: {
                case: "history" as const,
                value: {
                  of: { model: r.model, twins: r.twins },
                  properties: r.properties,
                  since: durationFromMs(r.hours * 3_600_000),
                  step: durationFromMs(r.stepMinutes * 60_000),
                  aggregate: r.aggregate,
                  format: formats[format],
                  zone: r.zone,
                },
              },
            })),
          },
        },
      },
    ],
  });
}
