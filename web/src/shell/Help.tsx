import { Kbd, Modal, Table } from "@mantine/core";

const keys: [string[], string][] = [
  [["Ctrl", "K"], "Search everything"],
  [["g", "v"], "Overview"],
  [["g", "s"], "Search"],
  [["g", "t"], "Twins"],
  [["g", "d"], "Drivers"],
  [["g", "m"], "Models"],
  [["g", "h"], "History"],
  [["g", "z"], "Site: zones, systems, relations"],
  [["g", "i"], "Ingest"],
  [["g", "b"], "Inbox"],
  [["g", "o"], "Topics"],
  [["g", "r"], "Routes"],
  [["g", "u"], "Rules and schedules"],
  [["g", "a"], "Alarms"],
  [["g", "y"], "Notifiers"],
  [["g", "l"], "Logic"],
  [["g", "p"], "Projects"],
  [["g", "e"], "Aliases"],
  [["g", "n"], "Cluster: the nodes"],
  [["/"], "Filter the twins"],
  [["c"], "Create a twin"],
  [["↑", "↓"], "Move through the table"],
  [["Enter"], "Open the twin"],
  [["Esc"], "Leave the dialogue, clear the filter"],
  [["?"], "This list"],
];

export function Help({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  return (
    <Modal opened={opened} onClose={onClose} title="Keyboard" size="sm" closeButtonProps={{ "aria-label": "Close" }}>
      <Table withRowBorders={false} verticalSpacing={4}>
        <Table.Tbody>
          {keys.map(([combination, what]) => (
            <Table.Tr key={what}>
              <Table.Td w={110}>
                {combination.map((k) => (
                  <Kbd key={k} size="xs" mr={4}>
                    {k}
                  </Kbd>
                ))}
              </Table.Td>
              <Table.Td>{what}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Modal>
  );
}
