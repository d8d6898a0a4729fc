import { ActionIcon, Menu, Tooltip, useMantineColorScheme } from "@mantine/core";
import { useHotkeys } from "@mantine/hooks";
import { useEffect, useRef, useState, type ReactNode } from "react";
import { Link, useLocation } from "wouter";

import { dropKey, signedOut } from "../api/session";
import { Help } from "./Help";
import { ChartIcon, DriversIcon, ExitIcon, IngestIcon, KeyboardIcon, LogicIcon, ModelsIcon, MoonIcon, NodesIcon, OverviewIcon, ProjectsIcon, RulesIcon, SearchIcon, SiteIcon, SunIcon, SystemIcon, TopicsIcon, TwinsIcon } from "./icons";
import { LinkBadge, LinkBanner } from "./LinkBadge";
import { Logo } from "./Logo";
import { useShortcuts } from "./shortcuts";

/** What the rail leads to; `also` are rooms that stand beside the first one as tabs. */
const rooms: { path: string; name: string; icon: typeof TwinsIcon; also?: string[] }[] = [
  { path: "/overview", name: "Overview", icon: OverviewIcon },
  { path: "/search", name: "Search", icon: SearchIcon },
  { path: "/twins", name: "Twins", icon: TwinsIcon },
  { path: "/history", name: "History", icon: ChartIcon, also: ["/retention"] },
  { path: "/site", name: "Site", icon: SiteIcon, also: ["/systems", "/relations"] },
  { path: "/ingest", name: "Ingest", icon: IngestIcon, also: ["/inbox", "/import", "/simulations"] },
  { path: "/topics", name: "Topics", icon: TopicsIcon, also: ["/routes", "/sinks", "/sources"] },
  { path: "/rules", name: "Rules", icon: RulesIcon, also: ["/schedules", "/alarms", "/analytics", "/notifiers"] },
  { path: "/logic", name: "Logic", icon: LogicIcon },
  { path: "/drivers", name: "Drivers", icon: DriversIcon },
  { path: "/models", name: "Models", icon: ModelsIcon },
  { path: "/projects", name: "Projects", icon: ProjectsIcon, also: ["/aliases"] },
  { path: "/cluster", name: "Cluster", icon: NodesIcon },
];

/** The frame of every room: the rail with the rooms, and a line on top when the node is out of reach. */
export function Shell({ children }: { children: ReactNode }) {
  const [path, go] = useLocation();
  const [help, setHelp] = useState(false);
  const rail = useRef<HTMLElement>(null);
  // A narrow window has not all rooms in sight.
  useEffect(() => {
    void rail.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [path]);
  useShortcuts({
    "g v": () => go("/overview"),
    "g s": () => go("/search"),
    "g t": () => go("/twins"),
    "g d": () => go("/drivers"),
    "g m": () => go("/models"),
    "g n": () => go("/cluster"),
    "g i": () => go("/ingest"),
    "g b": () => go("/inbox"),
    "g h": () => go("/history"),
    "g z": () => go("/site"),
    "g o": () => go("/topics"),
    "g r": () => go("/routes"),
    "g u": () => go("/rules"),
    "g a": () => go("/alarms"),
    "g p": () => go("/projects"),
    "g e": () => go("/aliases"),
    "g y": () => go("/notifiers"),
    "g l": () => go("/logic"),
    "?": () => setHelp(true),
  });
  useSearchKey(() => {
    if (path === "/search") window.dispatchEvent(new Event("pollux:search"));
    else go("/search");
  });
  return (
    <div className="shell">
      <a className="skip" href="#room">
        Skip to the room
      </a>
      <nav ref={rail} className="rail" aria-label="Rooms">
        <Link href="/overview" className="rail-logo" aria-label="Pollux">
          <Logo />
        </Link>
        {rooms.map((room) => (
          <Link
            key={room.path}
            href={room.path}
            className="rail-item"
            aria-current={[room.path, ...(room.also ?? [])].some((p) => path === p || path.startsWith(`${p}/`)) ? "page" : undefined}
          >
            <room.icon size={20} />
            <span>{room.name}</span>
          </Link>
        ))}
        <div className="rail-foot">
          <LinkBadge />
          <Tooltip label="Keyboard" position="right">
            <ActionIcon variant="subtle" color="gray" aria-label="Keyboard shortcuts" visibleFrom="sm" onClick={() => setHelp(true)}>
              <KeyboardIcon />
            </ActionIcon>
          </Tooltip>
          <Scheme />
          <Tooltip label="Sign out" position="right">
            <ActionIcon variant="subtle" color="gray" aria-label="Sign out" onClick={() => void signOut()}>
              <ExitIcon />
            </ActionIcon>
          </Tooltip>
        </div>
      </nav>
      <div className="stage">
        <LinkBanner />
        <main id="room" className="room" tabIndex={-1}>
          {children}
        </main>
      </div>
      <Help opened={help} onClose={() => setHelp(false)} />
    </div>
  );
}

/** Ctrl-K, or Cmd-K, leads to the search, also out of a field. */
function useSearchKey(open: () => void) {
  useHotkeys([["mod+K", open]], [], true);
}

/** Forgets the key; the cookie is the node's, so the node is asked to drop it. */
async function signOut() {
  dropKey();
  await fetch("/logout", { method: "POST", credentials: "same-origin" }).catch(() => undefined);
  signedOut();
}

const schemes = [
  { value: "light", name: "Light", icon: SunIcon },
  { value: "dark", name: "Dark", icon: MoonIcon },
  { value: "auto", name: "As the system", icon: SystemIcon },
] as const;

function Scheme() {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const current = schemes.find((s) => s.value === colorScheme) ?? schemes[2];
  return (
    <Menu position="right-end" shadow="md" width={160}>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" aria-label={`Colours: ${current.name}`}>
          <current.icon />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {schemes.map((s) => (
          <Menu.Item key={s.value} leftSection={<s.icon />} onClick={() => setColorScheme(s.value)} aria-current={s === current}>
            {s.name}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}
