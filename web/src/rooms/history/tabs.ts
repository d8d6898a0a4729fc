/** The rooms of the past. */
export const historyTabs = [
  { path: "/history", name: "History" },
  { path: "/retention", name: "Retention" },
];
