package history

import (
	"net/http"
	"net/url"
	"strings"
)

// extraArgs are arguments by which VictoriaMetrics takes further filters. Several extra_filters are joined by "or", so none of the
// caller's may stand beside the one that is forced.
var extraArgs = []string{"extra_label", "extra_label[]", "extra_filters", "extra_filters[]"}

// projectPaths are the paths of the Prometheus API that are served for one project.
var projectPaths = map[string]bool{"/api/v1/query": true, "/api/v1/query_range": true, "/api/v1/series": true, "/api/v1/labels": true, "/api/v1/export": true}

// ProjectPath says whether p, such as /api/v1/query, is one that OfProject serves.
func ProjectPath(p string) bool {
	return projectPaths[p] || readable(p) && strings.HasPrefix(p, "/api/v1/label/")
}

// OfProject serves the paths of the Prometheus API that ProjectPath names, for the samples of one project: to every selector of a
// query, however it is written, VictoriaMetrics adds the label's filter. So what label_replace, or, union or a subquery makes is
// made of the project's own. The nodes' metrics are nobody's project's.
func OfProject(h History, project string) http.Handler {
	all := h.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ProjectPath(r.URL.Path) {
			http.NotFound(w, r)
			return
		}
		if r.Method == http.MethodPost {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		}
		if err := r.ParseForm(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		args := url.Values{}
		for name, values := range r.Form {
			args[name] = values
		}
		for _, name := range extraArgs {
			args.Del(name)
		}
		args.Set("extra_filters[]", "{project="+quote(project)+"}")
		body := request(strings.TrimSuffix(Prefix, "/")+r.URL.Path, args).WithContext(r.Context())
		body.RemoteAddr, body.Host = r.RemoteAddr, r.Host
		all.ServeHTTP(w, body)
	})
}
