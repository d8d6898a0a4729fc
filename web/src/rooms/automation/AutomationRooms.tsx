import "./automation.css";

import { NotifiersRoom } from "../notify/NotifiersRoom";
import { AlarmsRoom } from "./AlarmsRoom";
import { RulesRoom } from "./RulesRoom";
import { SchedulesRoom } from "./SchedulesRoom";

const rooms = { rules: RulesRoom, schedules: SchedulesRoom, alarms: AlarmsRoom, notifiers: NotifiersRoom };

/** The rooms of what happens by itself, fetched together by those who open one of them. */
export function AutomationRooms({ room }: { room: keyof typeof rooms }) {
  const Room = rooms[room];
  return <Room />;
}
