import "./code.css";

import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { javascript } from "@codemirror/lang-javascript";
import { yaml } from "@codemirror/lang-yaml";
import { bracketMatching, defaultHighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, setDiagnostics, type Diagnostic } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, highlightActiveLineGutter, keymap, lineNumbers } from "@codemirror/view";
import { useEffect, useRef } from "react";

import type { Place } from "./place";

export interface Mark extends Place {
  text: string;
}

export interface CodePaneProps {
  label: string;
  kind: "js" | "yaml";
  text: string;
  onText: (text: string) => void;
  marks: Mark[];
  /** Where to go; another object goes again. */
  at: Place | undefined;
}

/** An editor of one file. The text outside wins where it is another than what was typed. */
export default function CodePane({ label, kind, text, onText, marks, at }: CodePaneProps) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView>(null);
  const told = useRef(onText);
  useEffect(() => {
    told.current = onText;
  });
  const first = useRef(text);
  useEffect(() => {
    const v = new EditorView({
      parent: host.current as HTMLDivElement,
      state: EditorState.create({
        doc: first.current,
        extensions: [
          lineNumbers(), highlightActiveLine(), highlightActiveLineGutter(), drawSelection(), history(), indentOnInput(), bracketMatching(),
          closeBrackets(), autocompletion(), highlightSelectionMatches(), lintGutter(), EditorState.tabSize.of(2),
          syntaxHighlighting(defaultHighlightStyle, { fallback: true }),
          keymap.of([...closeBracketsKeymap, ...defaultKeymap.filter((k) => k.key !== "Mod-Enter"), ...searchKeymap, ...historyKeymap, ...completionKeymap, indentWithTab]),
          kind === "js" ? javascript() : yaml(),
          EditorView.contentAttributes.of({ "aria-label": label, spellcheck: "false" }),
          EditorView.updateListener.of((u) => {
            if (u.docChanged) told.current(u.state.doc.toString());
          }),
        ],
      }),
    });
    view.current = v;
    return () => v.destroy();
  }, [kind, label]);
  useEffect(() => {
    const v = view.current;
    if (v && v.state.doc.toString() !== text) v.dispatch({ changes: { from: 0, to: v.state.doc.length, insert: text } });
  }, [text]);
  useEffect(() => {
    const v = view.current;
    if (!v) return;
    v.dispatch(setDiagnostics(v.state, marks.map((m) => diagnostic(v, m))));
  }, [marks]);
  useEffect(() => {
    const v = view.current;
    if (!v || !at) return;
    const pos = position(v, at);
    v.dispatch({ selection: { anchor: pos }, effects: EditorView.scrollIntoView(pos, { y: "center" }) });
    v.focus();
  }, [at]);
  return <div ref={host} className="code-pane" />;
}

function position(v: EditorView, { line, column = 1 }: Place): number {
  const l = v.state.doc.line(Math.min(Math.max(line, 1), v.state.doc.lines));
  return Math.min(l.from + column - 1, l.to);
}

function diagnostic(v: EditorView, m: Mark): Diagnostic {
  const from = position(v, m);
  const { to } = v.state.doc.lineAt(from);
  return { from, to: Math.max(from, to), severity: "error", message: m.text };
}
