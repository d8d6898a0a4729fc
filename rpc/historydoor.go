package rpc

import (
	"fmt"
	"net/http"

	"github.com/polluxhq/pollux/storage/history"
)

// prometheusPath serves the Prometheus API for one project: Grafana's data source of that kind asks below it.
const prometheusPath = "/v1/prometheus/"

// projectOfPath is what a path with a project is authorized on.
func projectOfPath(r *http.Request) Resource {
	return Resource{Project: r.PathValue("project"), Kind: "history"}
}

// prometheus passes MetricsQL through, for the samples of the path's project.
func (s *Server) prometheus(w http.ResponseWriter, r *http.Request) {
	project, path := r.PathValue("project"), "/"+r.PathValue("path")
	switch {
	case !validProject(project):
		http.Error(w, fmt.Sprintf("%q is no project's name", project), http.StatusBadRequest)
		return
	case !history.ProjectPath(path):
		http.Error(w, "there are api/v1/query, query_range, series, labels, label/NAME/values and export here", http.StatusNotFound)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "only reading is served here", http.StatusMethodNotAllowed)
		return
	case len(s.o.Cluster.HistoryNodes()) > 0:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "this node's history is not complete yet; ask another node", http.StatusServiceUnavailable)
		return
	}
	to := r.Clone(r.Context())
	to.URL.Path, to.URL.RawPath = path, ""
	history.OfProject(s.o.History, project).ServeHTTP(w, to)
}
