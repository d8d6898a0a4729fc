import "./automation.css";

import { AlarmsRoom } from "./AlarmsRoom";
import { RulesRoom } from "./RulesRoom";
import { SchedulesRoom } from "./SchedulesRoom";

const rooms = { rules: RulesRoom, schedules: SchedulesRoom, alarms: AlarmsRoom };

/** The rooms of what happens by itself, fetched together by those who open one of them. */
export function AutomationRooms({ room }: { room: keyof typeof rooms }) {
  const Room = rooms[room];
  return <Room />;
}
