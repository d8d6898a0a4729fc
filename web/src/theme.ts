import { createTheme, type MantineColorsTuple } from "@mantine/core";

/** Night-sky blue for what can be pressed. */
const ink: MantineColorsTuple = [
  "#eef2fb", "#dbe3f3", "#b5c5e6", "#8ca5d9", "#6a8acd", "#5478c6", "#476fc4", "#385eae", "#2f549c", "#22488b",
];

/** The orange star: what is alive, asked, in motion. */
const amber: MantineColorsTuple = [
  "#fff6e6", "#fbe9cf", "#f5d1a0", "#efb86d", "#eaa342", "#e79527", "#e58e18", "#cc7a0b", "#b56c04", "#9d5c00",
];

const dark: MantineColorsTuple = [
  "#cdd5e3", "#a9b4c8", "#8490a8", "#5b6780", "#38435a", "#29334a", "#1b2335", "#141b2a", "#0f1522", "#0a0f1a",
];

export const theme = createTheme({
  primaryColor: "ink",
  primaryShade: { light: 7, dark: 5 },
  colors: { ink, amber, dark },
  fontFamily: '"IBM Plex Sans", system-ui, sans-serif',
  fontFamilyMonospace: '"IBM Plex Mono", ui-monospace, monospace',
  fontSizes: { xs: "0.72rem", sm: "0.8125rem", md: "0.875rem", lg: "1rem", xl: "1.15rem" },
  defaultRadius: "sm",
  radius: { xs: "3px", sm: "5px", md: "7px", lg: "10px", xl: "16px" },
  headings: { fontFamily: '"IBM Plex Sans", system-ui, sans-serif', fontWeight: "600" },
  focusRing: "auto",
  cursorType: "pointer",
  respectReducedMotion: true,
  components: {
    Button: { defaultProps: { size: "xs" } },
    TextInput: { defaultProps: { size: "xs" } },
    PasswordInput: { defaultProps: { size: "xs" } },
    NumberInput: { defaultProps: { size: "xs" } },
    Select: { defaultProps: { size: "xs", checkIconPosition: "right", clearButtonProps: { "aria-label": "Clear" } } },
    MultiSelect: { defaultProps: { size: "xs" } },
    NativeSelect: { defaultProps: { size: "xs" } },
    Checkbox: { defaultProps: { size: "xs" } },
    Autocomplete: { defaultProps: { size: "xs" } },
    TagsInput: { defaultProps: { size: "xs" } },
    Textarea: { defaultProps: { size: "xs" } },
    JsonInput: { defaultProps: { size: "xs" } },
    SegmentedControl: { defaultProps: { size: "xs" } },
    Switch: { defaultProps: { size: "sm" } },
    Modal: { defaultProps: { centered: false, overlayProps: { backgroundOpacity: 0.35, blur: 1 } } },
    Table: { defaultProps: { horizontalSpacing: 12 } },
    Tooltip: { defaultProps: { openDelay: 350, withArrow: true } },
  },
});
