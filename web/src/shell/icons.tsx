import type { ReactNode } from "react";

function icon(drawing: ReactNode) {
  return function Icon({ size = 16 }: { size?: number }) {
    return (
      <svg
        width={size}
        height={size}
        viewBox="0 0 20 20"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.5"
        strokeLinecap="round"
        strokeLinejoin="round"
        aria-hidden="true"
      >
        {drawing}
      </svg>
    );
  };
}

export const TwinsIcon = icon(
  <>
    <path d="M7 6.5c.4 4 1.6 5.2 5.5 5.5-3.9.3-5.1 1.5-5.5 5.5-.4-4-1.6-5.2-5.5-5.5C5.4 11.7 6.6 10.5 7 6.5Z" />
    <path d="M14.5 2c.3 2.6 1 3.3 3.5 3.6-2.5.3-3.2 1-3.5 3.6-.3-2.6-1-3.3-3.5-3.6 2.5-.3 3.2-1 3.5-3.6Z" />
  </>,
);
export const OverviewIcon = icon(
  <>
    <path d="M3 13.5a7 7 0 0 1 14 0" />
    <path d="m10 13.5 3.2-4" />
    <path d="M3 16.5h14" />
  </>,
);
export const DriversIcon = icon(
  <>
    <rect x="3.5" y="3.5" width="13" height="13" rx="2" />
    <path d="M7 8h6M7 12h3.5" />
  </>,
);
export const ModelsIcon = icon(
  <>
    <rect x="3.5" y="3.5" width="13" height="13" rx="2" />
    <path d="M3.5 8h13M8 8v8.5" />
  </>,
);
export const NodesIcon = icon(
  <>
    <circle cx="10" cy="4.5" r="2" />
    <circle cx="4.5" cy="14.5" r="2" />
    <circle cx="15.5" cy="14.5" r="2" />
    <path d="M9 6.3 5.5 12.7M11 6.3l3.5 6.4M6.5 14.5h7" />
  </>,
);
export const LogicIcon = icon(<path d="M8 3.5c-2.5 0-3 1-3 3v1.5c0 1.3-.5 2-2 2 1.5 0 2 .7 2 2v1.5c0 2 .5 3 3 3M12 3.5c2.5 0 3 1 3 3v1.5c0 1.3.5 2 2 2-1.5 0-2 .7-2 2v1.5c0 2-.5 3-3 3" />);
export const SearchIcon = icon(
  <>
    <circle cx="8.5" cy="8.5" r="5" />
    <path d="m12.5 12.5 4 4" />
  </>,
);
export const RulesIcon = icon(
  <>
    <circle cx="10" cy="11" r="6.5" />
    <path d="M10 7.5V11l2.5 1.5M3 4.5 5.5 2.5M17 4.5l-2.5-2" />
  </>,
);
export const PlusIcon = icon(<path d="M10 4v12M4 10h12" />);
export const SunIcon = icon(
  <>
    <circle cx="10" cy="10" r="3.5" />
    <path d="M10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M15.7 4.3l-1.1 1.1M5.4 14.6l-1.1 1.1" />
  </>,
);
export const MoonIcon = icon(<path d="M16.5 11.8A6.8 6.8 0 1 1 8.2 3.5a5.5 5.5 0 0 0 8.3 8.3Z" />);
export const SystemIcon = icon(
  <>
    <rect x="3" y="4" width="14" height="9.5" rx="1.5" />
    <path d="M7.5 17h5" />
  </>,
);
export const ExitIcon = icon(<path d="M8 3.5H5A1.5 1.5 0 0 0 3.5 5v10A1.5 1.5 0 0 0 5 16.5h3M12.5 6.5 16 10l-3.5 3.5M16 10H8" />);
export const TrashIcon = icon(<path d="M3.5 5.5h13M8 5V3.5h4V5M5.5 5.5l.7 10.5h7.6l.7-10.5M8.5 8.5v4.5M11.5 8.5v4.5" />);
export const ChartIcon = icon(<path d="M3 16.5h14M3.5 12l4-4 3 3 5.5-6" />);
export const UploadIcon = icon(<path d="M10 13V4M6.5 7.5 10 4l3.5 3.5M3.5 13v2A1.5 1.5 0 0 0 5 16.5h10a1.5 1.5 0 0 0 1.5-1.5v-2" />);
export const PauseIcon = icon(<path d="M7 4.5v11M13 4.5v11" />);
export const PlayIcon = icon(<path d="M6.5 4.5v11l9-5.5Z" />);
export const OutIcon = icon(<path d="M8 4.5H4.5v11h11V12M11.5 3.5h5v5M16 4l-7 7" />);
export const BackIcon = icon(<path d="M12 4.5 6.5 10l5.5 5.5" />);
export const KeyboardIcon = icon(
  <>
    <rect x="2.5" y="5" width="15" height="10" rx="1.5" />
    <path d="M5.5 8h.01M8.5 8h.01M11.5 8h.01M14.5 8h.01M5.5 12h.01M14.5 12h.01M8 12h4" />
  </>,
);
export const IngestIcon = icon(<path d="M10 3v8.5M6.5 8.5 10 12l3.5-3.5M3.5 12.5v3A1.5 1.5 0 0 0 5 17h10a1.5 1.5 0 0 0 1.5-1.5v-3" />);
export const TopicsIcon = icon(<path d="M3 5.5h9M3 10h14M3 14.5h9M14 3.5l2.5 2L14 7.5M14 12.5l2.5 2-2.5 2" />);
export const SiteIcon = icon(
  <>
    <path d="M4 17V5.5L10 3v14M10 7.5l6 2.5v7M2.5 17h15" />
    <path d="M6.5 8v.01M6.5 11v.01M6.5 14v.01M13 12v.01M13 14.5v.01" />
  </>,
);
export const ProjectsIcon = icon(<path d="M2.5 6A1.5 1.5 0 0 1 4 4.5h3.5l2 2H16A1.5 1.5 0 0 1 17.5 8v6.5A1.5 1.5 0 0 1 16 16H4a1.5 1.5 0 0 1-1.5-1.5Z" />);
export const CloseIcon = icon(<path d="m5 5 10 10M15 5 5 15" />);
