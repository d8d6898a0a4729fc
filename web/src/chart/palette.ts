export type Scheme = "light" | "dark";

/**
 * Colours of nodes in the map and of lines in a chart. Chosen so that any two of a scheme, and each from its
 * ground, keep apart for people who see no red, no green or no blue; the test computes that. The ninth
 * shares the first one's colour: the legend and the pointer tell them apart.
 */
export const palettes: Record<Scheme, readonly string[]> = {
  light: ["#0072b2", "#e69f00", "#a3195b", "#51c8f7", "#5d2209", "#b7ab80", "#17278c", "#8a6805"],
  dark: ["#3f9fe0", "#f0a83a", "#c04f7d", "#acf8fd", "#e4f1c3", "#876502", "#5a58e0", "#b8a963"],
};
